"""One trace from its options to its summary: which source, filter and format, and when it ends.

What a command needs that is traced is in ``run``, and the writing itself in ``output``.
"""
