"""A command on a terminal of its own: what it shows is waited for, and Ctrl-C reaches it."""

from __future__ import annotations

from typing import Any

import pytest

_PATIENCE_S = 20
_STUBBORN = "trap '' INT; echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def terminal(lib: Any) -> Any:
    """Return the class."""
    return lib("terminal").Terminal


def test_the_command_has_a_wide_terminal(terminal: Any) -> None:
    with terminal(["sh", "-c", "stty size; test -t 2 && echo yes"]) as running:
        assert running.end(_PATIENCE_S) == 0
        assert running.text() == "50 220\nyes\n"


def test_ctrl_c_interrupts_it(terminal: Any) -> None:
    script = "trap 'exit 3' INT; echo ready; while :; do sleep 0.1; done"
    with terminal(["sh", "-c", script]) as running:
        assert running.wait_for("ready\n", _PATIENCE_S)
        running.interrupt()
        assert running.end(_PATIENCE_S) == 3


def test_what_is_never_shown_and_an_end_that_never_comes_are_told(terminal: Any) -> None:
    with terminal(["sh", "-c", _STUBBORN]) as running:
        assert running.wait_for("ready", _PATIENCE_S)
        assert not running.wait_for("other", 0.2)
        running.interrupt()
        assert running.end(0.2) is None
