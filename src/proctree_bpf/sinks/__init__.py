"""Events and the tree, as text: one folder a family, and beside them what families share.

Pure but for the stream that a sink writes to; a sink knows no source and no other family.
"""
