"""The tree, live: on a terminal it is redrawn, elsewhere lines are added.

Who is shown is kept here, apart from the tracker's table; nothing here changes that table.
"""
