"""What this machine tells a source: ``/proc``, clocks, privileges, cgroups, where we run.

Nothing here is a source, and nothing here keeps what it has read for the tree.
"""
