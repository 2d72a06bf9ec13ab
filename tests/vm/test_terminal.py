"""A command on a terminal of its own: what it shows is waited for, and Ctrl-C reaches it."""

from __future__ import annotations

from vmtest.terminal import Terminal

_PATIENCE_S = 20
_STUBBORN = "trap '' INT; echo ready; while :; do sleep 0.1; done"


def test_the_command_has_a_wide_terminal() -> None:
    with Terminal(["sh", "-c", "stty size; test -t 2 && echo yes"]) as running:
        assert running.end(_PATIENCE_S) == 0
        assert running.text() == "50 220\nyes\n"


def test_ctrl_c_interrupts_it() -> None:
    script = "trap 'exit 3' INT; echo ready; while :; do sleep 0.1; done"
    with Terminal(["sh", "-c", script]) as running:
        assert running.wait_for("ready\n", _PATIENCE_S)
        running.interrupt()
        assert running.end(_PATIENCE_S) == 3


def test_what_is_never_shown_and_an_end_that_never_comes_are_told() -> None:
    with Terminal(["sh", "-c", _STUBBORN]) as running:
        assert running.wait_for("ready", _PATIENCE_S)
        assert not running.wait_for("other", 0.2)
        running.interrupt()
        assert running.end(0.2) is None
