"""Where events come from: the only code that talks to the kernel. One file a source.

What they need is in the folders: ``loading`` (our BPF programs), ``rings`` (perf buffers) and
``system`` (``/proc``, clocks, privileges). Nothing is decoded, kept or shown here.
"""
