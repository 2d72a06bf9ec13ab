"""The smoke test's check passes what a trace of the demo shows, and nothing else."""

from __future__ import annotations

import pytest

from vmtest.demo_check import faults

_DEMO = """\
demo: round 1 of 1
demo: latter: has PID 782, which former had; orphan is former's, not latter's
demo: done
"""
_BEGIN = "proctree-bpf: tracing with bpf, 66 processes known; press Ctrl-C to stop"
_END = "^Cproctree-bpf: 4.6 s: 50 exec, 52 exit records written; nothing lost"
_ROUND = (
    ("exec", 755, "demo", "bash < sshd"),
    ("exec", 771, "brief", "demo < bash < sshd"),
    ("exit", 771, "brief", "demo < bash < sshd"),
    ("exec", 772, "brief", "demo < bash < sshd"),
    ("exit", 772, "brief", "demo < bash < sshd"),
    ("exec", 773, "brief", "demo < bash < sshd"),
    ("exit", 773, "brief", "demo < bash < sshd"),
    ("exec", 774, "middle", "demo < bash < sshd"),
    ("exit", 774, "middle", "demo < bash < sshd"),
    ("exec", 775, "daemon", "middle < demo < bash < sshd"),
    ("exit", 775, "daemon", "middle < demo < bash < sshd"),
    ("exec", 782, "former", "demo < bash < sshd"),
    ("exit", 782, "former", "demo < bash < sshd"),
    ("exec", 783, "orphan", "former < demo < bash < sshd"),
    ("exec", 782, "latter", "demo < bash < sshd"),
    ("exit", 782, "latter", "demo < bash < sshd"),
    ("exit", 783, "orphan", "former < demo < bash < sshd"),
    ("exit", 755, "demo", "bash < sshd"),
)
_Records = tuple[tuple[str, int, str, str], ...]


def _shown(records: _Records, *, begin: str = _BEGIN, end: str = _END) -> str:
    lines = [
        f"00:47:04.041 {event:8} {pid:>6} {755:>6} vagrant    {name:15} {'':10} sh -c x {chain}"
        for event, pid, name, chain in records
    ]
    return "\n".join([begin, "TIME  EVENT  PID", *lines, end])


def _without(event: str, name: str) -> _Records:
    return tuple(record for record in _ROUND if (record[0], record[2]) != (event, name))


def _below(name: str, chain: str) -> _Records:
    return tuple((*record[:3], chain) if record[2] == name else record for record in _ROUND)


def _with_pid(name: str, pid: int) -> _Records:
    return tuple(
        (record[0], pid, *record[2:]) if record[2] == name else record for record in _ROUND
    )


def test_what_the_demo_shows_is_right() -> None:
    assert faults(_shown(_ROUND), _DEMO, 1) == []


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ((), "0 exec of brief"),
        (_without("exec", "orphan"), "0 exec of orphan shown, expected 1"),
        (_without("exit", "daemon"), "0 exit of daemon shown, expected 1"),
        ((*_ROUND, ("exec", 4, "brief", "demo < bash")), "4 exec of brief shown, expected 3"),
        ((*_ROUND, ("exec", 4, "sleep", "bash < sshd")), "not below demo: "),
        ((*_ROUND, ("gap", 4, "sleep", "demo < bash")), "neither exec nor exit: "),
        (_below("daemon", "demo < bash"), "exec of daemon shown below demo < bash"),
        (_below("orphan", "demo < bash"), "exit of orphan shown below demo < bash"),
        (_below("orphan", "latter < demo"), "exit of orphan shown below latter < demo"),
        (_below("latter", "demo < former"), "exec of latter shown below demo < former"),
        (_with_pid("latter", 900), "a PID was shown as used again 0 times, expected 1"),
        ((*_ROUND[:-4], *_ROUND[-2:-1], *_ROUND[-4:-2]), "no orphan was shown to end after"),
    ],
)
def test_records_that_are_missing_wrong_or_too_many_are_faults(
    records: _Records, expected: str
) -> None:
    assert any(fault.startswith(expected) for fault in faults(_shown(records), _DEMO, 1))


@pytest.mark.parametrize(
    ("shown", "demo", "expected"),
    [
        (_shown(_ROUND, begin="tracing with proc-connector,"), _DEMO, "BPF was not the source"),
        (_shown(_ROUND, end=""), _DEMO, "the trace did not end with a summary"),
        (_shown(_ROUND, end="1 s: 3 events lost"), _DEMO, "the trace did not end with a summary"),
        (_shown(_ROUND), "demo: done\n", "the demo did not come to its end"),
        (_shown(_ROUND), _DEMO.replace("demo: done", ""), "the demo did not come to its end"),
    ],
)
def test_a_trace_or_a_demo_that_did_not_end_well_is_a_fault(
    shown: str, demo: str, expected: str
) -> None:
    assert [fault.startswith(expected) for fault in faults(shown, demo, 1)] == [True]
