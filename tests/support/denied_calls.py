"""Runs a command to which the kernel refuses some system calls, by seccomp(2)."""

from __future__ import annotations

import os
import sys

_NUMBERS = {
    "x86_64": {
        "bpf": 321, "eventfd": 290, "perf_event_open": 298, "pidfd_open": 434, "poll": 7,
        "socket": 41,
    },
    "aarch64": {
        "bpf": 280, "eventfd": 19, "perf_event_open": 241, "pidfd_open": 434, "poll": 73,
        "socket": 198,
    },
}  # fmt: skip

# They fail with EPERM, everything else is allowed; then it runs the command.
_DENY = """
import ctypes, struct, os, sys
filters = []
for rule in sys.argv[1].split(","):
    number, *argument = map(int, rule.split(":"))
    filters += [(0x20, 0, 0, 0), (0x15, 0, 3 if argument else 1, number)]
    if argument:
        filters += [(0x20, 0, 0, 16 + 8 * argument[0]), (0x15, 0, 1, argument[1])]
    filters.append((6, 0, 0, 0x00050001))
filters.append((6, 0, 0, 0x7FFF0000))
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *f) for f in filters))
program = struct.pack("@HP", len(filters), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"""


def denied(*rules: str) -> list[str]:
    """Return the words that run a command without some system calls.

    A rule is a call's name, or "name:argument:value": it fails if its argument has this value.
    """
    numbers = _NUMBERS.get(os.uname().machine, {})
    by_number = []
    for rule in rules:
        name, separator, argument = rule.partition(":")
        by_number.append(f"{numbers.get(name, -1)}{separator}{argument}")
    return [sys.executable, "-c", _DENY, ",".join(by_number)]
