"""Which commands ran most, ran longest, and failed, among the records written. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Hashable
from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

from proctree_bpf.core.events import exit_code_of
from proctree_bpf.core.text import visible
from proctree_bpf.sinks.describe import exit_text
from proctree_bpf.sinks.wall_time import duration

if TYPE_CHECKING:
    from proctree_bpf.core.process_event import ProcessEvent

# How many are named: what is read at a glance.
_TOP = 5
# How many different commands are counted at once. A machine runs some hundreds; more only
# come from programs that rename themselves, which must not fill the memory.
MAX_COUNTED = 4096

K = TypeVar("K", bound=Hashable)


class FrequentCounter(Generic[K]):
    """Counts what is frequent, in bounded memory.

    When there are too many different keys, the rarer half is forgotten: what is frequent
    stays, and from then on counts are the least that they can be.
    """

    def __init__(self, capacity: int = MAX_COUNTED) -> None:
        self._capacity = capacity
        self._counts: Counter[K] = Counter()
        self.exact = True

    def add(self, key: K) -> None:
        """Count one more."""
        if key not in self._counts and len(self._counts) >= self._capacity:
            self.exact = False
            self._counts = Counter(dict(self.most(self._capacity // 2)))
        self._counts[key] += 1

    def most(self, number: int) -> list[tuple[K, int]]:
        """Return the most frequent; of equals, the one that came first."""
        return self._counts.most_common(number)


class Tally:
    """Looks at every record that is written."""

    def __init__(self) -> None:
        self._runs: FrequentCounter[str] = FrequentCounter()
        self._failures: FrequentCounter[tuple[str, str]] = FrequentCounter()
        # The longest run of each command, of the few that ran longest.
        self._longest: dict[str, int] = {}
        self._least_ns = -inf
        """What ran less is not among them."""

    def add(self, told: ProcessEvent) -> None:
        """Count an exec or an exit."""
        event = told.as_received
        if event.kind == "exec":
            self._runs.add(told.process.cmd)
        elif event.kind == "exit":
            age_ns = told.age_ns
            if age_ns is not None and age_ns >= self._least_ns:
                self._lasted(told.process.cmd, age_ns)
            status = event.status
            if status:
                code = exit_code_of(status)
                how = exit_text(status) if code is None else f"exit code {code}"
                self._failures.add((told.process.cmd, how))

    def lines(self) -> list[str]:
        """Return a line each for what there is to tell."""
        most = [f"{_name(name)} {count}" for name, count in self._runs.most(_TOP)]
        longest = [
            f"{_name(name)} {duration(ns)}"
            for name, ns in sorted(self._longest.items(), key=lambda item: -item[1])
        ]
        failed = [
            f"{_name(name)} {count} ({how})" for (name, how), count in self._failures.most(_TOP)
        ]
        told = (
            ("ran most" if self._runs.exact else "ran most (at least)", most),
            ("ran longest", longest),
            ("failed" if self._failures.exact else "failed (at least)", failed),
        )
        return [f"{title}: {', '.join(items)}" for title, items in told if items]

    def _lasted(self, name: str, ns: int) -> None:
        longest = self._longest
        if ns <= longest.get(name, -1):
            return
        longest[name] = ns
        if len(longest) > _TOP:
            del longest[min(longest, key=lambda other: longest[other])]
            self._least_ns = min(longest.values())


def _name(name: str) -> str:
    """Return a name that cannot pass for two, nor drive a terminal."""
    return shlex.quote(visible(name))
