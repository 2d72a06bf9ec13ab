"""The name of the calling thread, set to what it is: a kernel message without a consequence."""

from __future__ import annotations

import ctypes

_PR_SET_NAME, _PR_GET_NAME = 15, 16  # include/uapi/linux/prctl.h
_TASK_COMM_LEN = 16

_libc = ctypes.CDLL(None)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def touch() -> None:
    """Make the proc connector send a message about this thread.

    By prctl, because a write to ``/proc/thread-self/comm`` sends none before Linux 5.15
    (c2f273ebd89a).
    """
    name = ctypes.create_string_buffer(_TASK_COMM_LEN)
    address = ctypes.addressof(name)
    _libc.prctl(_PR_GET_NAME, address, 0, 0, 0)
    _libc.prctl(_PR_SET_NAME, address, 0, 0, 0)
