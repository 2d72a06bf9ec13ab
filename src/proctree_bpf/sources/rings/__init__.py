"""The perf buffers of all CPUs: mapped, drained, given back.

Bytes come out as they went in; ``codecs`` reads them.
"""
