"""Our BPF programs: compiled, kept, loaded, attached, and their maps read and written.

BCC is imported here and nowhere else. What samples mean is not known here.
"""
