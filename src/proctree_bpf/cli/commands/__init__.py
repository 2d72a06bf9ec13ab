"""One file a command: its arguments, its help, and for the queries the answer itself.

How a trace runs, how a traced command is run and what ``doctor`` checks is in the rooms beside
this one.
"""
