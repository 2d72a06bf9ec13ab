"""Which events are wanted: the terms, their answers here, and what the kernel can decide of them.

Pure, and no source is known here: a filter in the kernel is a port (``kernel_port``), which
``sources`` implements.
"""
