"""A command that is run in order to be traced: our child, its user, its signals, its terminal.

Nothing here knows of sources, filters or formats.
"""
