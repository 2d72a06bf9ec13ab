"""The pure core: no os, socket, time, logging or bcc in here. Time is passed in."""
