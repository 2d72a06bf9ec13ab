"""Where bytes go: files that are opened safely, and writers that leave whole lines behind.

Nothing here knows what is written.
"""
