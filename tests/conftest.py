"""What the tests need of the process that they run in."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import pytest

# They assert, and pytest shows the values only of what it has rewritten.
pytest.register_assert_rewrite(
    "support.json_page", "support.lifetime_contract", "support.store_contract"
)

_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 0x40000


def pytest_configure() -> None:
    """Prepare this process, from which all that is tested is started."""
    _keep_programs_apart()
    _default_signals()


def _keep_programs_apart() -> None:
    """Have compiled programs kept where nobody else finds them, in mounts of our own."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    caches = Path("/var/cache")
    if libc.unshare(_CLONE_NEWNS) == 0:
        assert libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None) == 0
        assert libc.mount(b"none", os.fsencode(caches), b"tmpfs", 0, b"mode=0755") == 0


def _default_signals() -> None:
    """Let the programs under test get the signals that we ignore, as under ``nohup`` or ``&``.

    A signal that is ignored stays so in what is started; one that is caught does not.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, _still_ignore)


def _still_ignore(_number: int, _frame: object) -> None:
    pass
