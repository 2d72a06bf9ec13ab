"""Where the program begins: ready for Ctrl-C before anything else is loaded.

Loading the rest takes a fifth of a second. Nothing else may be imported here at the top.
"""

import signal
import sys

_held_back = False


def _be_ready() -> None:
    """Let Ctrl-C end us as it ends any program; for a trace, hold it back until it can stop.

    Our script holds it back from its first line on, before Python looks for packages (-S).
    """
    global _held_back  # noqa: PLW0603 - there is one process
    by_script = bool(sys.flags.no_site)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        is_trace = sys.argv[1:2] == ["trace"]
        if is_trace:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            _held_back = by_script or signal.SIGINT not in before
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if by_script and not _held_back:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def was_interrupted() -> bool:
    """Tell whether Ctrl-C came while it was held back, and hold it back no longer."""
    global _held_back  # noqa: PLW0603 - as above
    if not _held_back:
        return False
    _held_back = False
    early = signal.sigtimedwait({signal.SIGINT}, 0) is not None
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return early


_be_ready()


def main() -> None:
    """Run ``proctree-bpf``."""
    from proctree_bpf.cli import main as run  # noqa: PLC0415 - it takes its time

    run()
