"""What the tests need of the process that they run in."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let the programs under test get the signals that we ignore, as under ``nohup`` or ``&``.

    A signal that is ignored stays so in what is started; one that is caught does not.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, _still_ignore)


def _still_ignore(_number: int, _frame: object) -> None:
    pass
