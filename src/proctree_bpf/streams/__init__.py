"""What arrived -> events in order, gaps and a watermark: one stream a source, and what they share.

They remember, but they are pure: no clock, no ``/proc`` and no kernel. What they need to know is
fed or passed in, so a recording goes the same way.
"""
