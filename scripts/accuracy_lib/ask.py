"""Asks the library who came from whom, while a forest grows and afterwards; a process of its own.

    ask.py SOURCE PERF_PAGES FILTER

It is run by the Python of the program under test. When it traces, it writes a line. Then it
reads lines: ``root PID`` says which forest to ask about, ``FILE`` that all have grown and where
the questions are (see ``library.py``). The answers go to stdout as JSON.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from living import differences
from proc_looks import living
from tally import Answers

from proctree_bpf import Collector
from proctree_bpf.sources.bpf import BpfOptions, BpfSource

if TYPE_CHECKING:
    from proctree_bpf import Process

_EVERY_S = 0.1
_PAIRS = 200
_REPAIRED_S = 15.0
# A load is not to push out those who are asked about.
_CAPACITY = 1_000_000


def _collector(source: str, perf_pages: int, terms: str) -> Collector:
    if source == "bpf" and perf_pages and not terms:
        return Collector(BpfSource(BpfOptions(perf_pages=perf_pages)), capacity=_CAPACITY)
    return Collector(source, terms or None, capacity=_CAPACITY)


class _Asker:
    def __init__(self, live: Collector) -> None:
        self._live = live
        self._random = random.Random(1)
        self.asked: list[tuple[int, int, int, int, str]] = []

    def ask_meanwhile(self, roots: list[int]) -> None:
        """Ask about pairs of what came from a root."""
        for pid in roots[-1:]:
            if pid not in self._live.tree:
                continue
            known = self._live.tree.children(pid, recursive=True)
            for _ in range(_PAIRS if known else 0):
                who, above = self._random.choice(known), self._random.choice(known)
                answer = self._live.is_descendant(who, above).value
                self.asked.append((*who.key, *above.key, answer))

    def repaired_after(self) -> tuple[float | None, list[str]]:
        """Wait until the tree's living are those of /proc; return how long that took."""
        begun = time.monotonic()
        while True:
            before = dict(living())
            told = {p.pid: p.start_time_ns for p in self._live.find(live_only=True)}
            wrong = differences(before, told, dict(living()))
            after_s = time.monotonic() - begun
            if not wrong:
                return after_s, []
            if after_s > _REPAIRED_S:
                return None, wrong
            time.sleep(0.05)


class _Lives:
    """The lives of the truth, and what the tree has of each."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._allowed: int = task["start_ns"]
        self.lives: list[list[int]] = task["lives"]
        self.above: list[set[int]] = []
        for number, (_, _, _, creator) in enumerate(self.lives):
            self.above.append({number} | (self.above[creator] if creator >= 0 else set()))
        self._by_pid: dict[int, list[int]] = {}
        for number, (pid, *_) in enumerate(self.lives):
            self._by_pid.setdefault(pid, []).append(number)

    def find(self, pid: int, start_ns: int) -> int | None:
        """Return the life of a PID and start; None if that is none, or one of two."""
        found = [
            number
            for number in self._by_pid.get(pid, ())
            if self.lives[number][1] - self._allowed
            <= start_ns
            <= self.lives[number][2] + self._allowed
        ]
        return found[0] if len(found) == 1 else None


def _ask_all(live: Collector, lives: _Lives, task: dict[str, Any]) -> dict[str, Any]:
    known: dict[int, Process] = {}
    for process in live.tree:
        number = lives.find(*process.key)
        if number is not None:
            known[number] = process
    pairs = Answers("is_descendant")
    for who, above in _pairs(lives, task):
        if who not in known or above not in known:
            pairs.add("unknown", truth=False)
            continue
        answer = live.is_descendant(known[who], known[above]).value
        pairs.add(answer, truth=above in lives.above[who], example=f"{known[who]} {known[above]}")
    named = Answers("is_descendant, by name")
    outdated = 0
    for who, process in known.items():
        true = {name for number in lives.above[who] for name in task["names"][number]}
        once = {name for number in lives.above[who] for name in task["former_names"][number]}
        for name in task["asked_names"]:
            answer = live.is_descendant(process, name).value
            named.add(answer, truth=name in true, example=f"{process} {name!r}")
            outdated += answer == "yes" and name not in true and name in once
    names = named.as_dict() | {"outdated_yes": outdated}
    return {"pairs": pairs.as_dict(), "names": names, "known": len(known)}


def _pairs(lives: _Lives, task: dict[str, Any]) -> list[tuple[int, int]]:
    """Return all pairs, or of those that are not related only so many, at random."""
    count, most = len(lives.lives), task["questions"]
    if count * count <= most:
        return [(who, above) for who in range(count) for above in range(count)]
    drawn = random.Random(task["seed"])
    pairs = [(who, above) for who in range(count) for above in lives.above[who]]
    return pairs + [(drawn.randrange(count), drawn.randrange(count)) for _ in range(most)]


def _judge_meanwhile(asker: _Asker, lives: _Lives) -> dict[str, Any]:
    answers = Answers("is_descendant, while it grows")
    for pid, start_ns, above_pid, above_start_ns, answer in asker.asked:
        who, above = lives.find(pid, start_ns), lives.find(above_pid, above_start_ns)
        if who is not None and above is not None:
            example = f"{pid}-{start_ns} {above_pid}-{above_start_ns}"
            answers.add(answer, truth=above in lives.above[who], example=example)
    return answers.as_dict()


def main() -> None:
    """Trace, ask and tell."""
    source, perf_pages, terms = sys.argv[1:]
    roots: list[int] = []
    with _collector(source, int(perf_pages), terms) as live:
        asker = _Asker(live)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            if not select.select([sys.stdin], [], [], _EVERY_S)[0]:
                asker.ask_meanwhile(roots)
                continue
            word, _, rest = sys.stdin.readline().strip().partition(" ")
            if word != "root":
                break
            roots.append(int(rest))
        if not word:
            return
        repaired_s, wrong = (None, []) if terms else asker.repaired_after()
    task = json.loads(Path(word).read_bytes())
    lives = _Lives(task)
    answers = _ask_all(live, lives, task)
    answers |= {"meanwhile": _judge_meanwhile(asker, lives), "stats": live.stats()}
    answers |= {"repaired_s": repaired_s, "living_wrong": wrong[:5], "living_count": len(wrong)}
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
