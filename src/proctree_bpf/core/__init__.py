"""The pure core: identity, events, the table of processes, and what is asked of it.

No os, socket, time, logging or bcc in here, and nothing of the other folders; time is passed in.
"""
