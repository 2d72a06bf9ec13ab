"""A line per event for people: the table, and the chain.

What a cell shows is in ``sinks.fields``; nothing that a process chose leaves its cell.
"""
