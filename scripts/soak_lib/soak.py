"""Watch a machine at half of what it can do, and say whether all stays as it should.

    sudo scripts/soak MINUTES [--disturb NAME,...] [--json FILE] [--svg FILE]

Two spawners make processes that end at once, at half the pace at which they would saturate two
CPUs. A collector with its defaults, in a process of its own, watches. Every few seconds its
memory is measured, how late its records are, what it says to have lost, and whether the living
of its tree are those of /proc. Ctrl-C ends it early, with the figures so far; a second one at
once, without.

What can be disturbed now and then, in turn:

    clock    the wall clock is an hour ahead for 2 s
    hotplug  a CPU is out of service for 2 s
    remount  /proc is mounted anew, in mounts of the tracer's own
    stop     the tracer is stopped for 5 s, so that records are lost

and for the whole run:

    memory   the tracer has at most 200 MB, by a cgroup
    suspend  its clocks differ as after a suspend, by a time namespace

What this machine cannot do is named in the result. The first two disturb whoever else uses the
machine.

It needs root and a C compiler. Exit status 0 if the tracer ran to the end, whatever it lost it
told, and its tree agreed with /proc in the end; 1 if not; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn import Churn, saturation
from disturbances import CONDITIONS, MOMENTS, MOUNTS, NAMES, NotHereError
from drift import drift
from machine import describe
from plot import svg
from samples import FROM_TRACER, Happened, Outcome, Sample, markdown, rates
from spawner_load import build
from tracer import TracerEndedError, tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from disturbances import Condition
    from tracer import Tracer

_PROGRAM = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "proctree-bpf"
_BETWEEN_S = 5.0
# A tracer that has not told all, or not mended its tree, within the limit is not waited for any
# longer; at the last sample it has a longer limit.
_PATIENCE_S, _LIMIT_S, _LAST_LIMIT_S = 5.0, 10.0, 60.0
_MOST_BETWEEN_MOMENTS_S = 300.0
_ENDING = (signal.SIGINT, signal.SIGTERM)


def _say(text: str, *, passing: bool = False) -> None:
    """Tell whoever waits how far it is; what is passing is written over on a terminal."""
    tty = sys.stderr.isatty()
    before = "\r\x1b[K" if tty else ""
    sys.stderr.write(f"{before}soak: {text}{'' if passing and tty else chr(10)}")
    sys.stderr.flush()


class _Run:
    """One run, from the first sample to the last."""

    def __init__(
        self, options: argparse.Namespace, outcome: Outcome, ended: threading.Event
    ) -> None:
        self._seconds = options.minutes * 60
        self._between_s = options.seconds_between
        self._outcome = outcome
        self._ended = ended
        self._begun = 0.0

    def go(self, tracer: Tracer, churn: Churn, moments: list[str]) -> None:
        """Sample until the time is over, or somebody ends it."""
        self._begun = time.monotonic()
        self._sample(tracer, churn)
        self._begun = time.monotonic()
        due = self._due(moments)
        when, name = next(due, (float("inf"), ""))
        while not self._ended.is_set() and (self._now() < self._seconds or self._is_owing(moments)):
            with churn.round():
                self._ended.wait(min(self._between_s, max(0.0, self._seconds - self._now())))
                is_wanted = when < self._seconds or self._is_owing(moments)
                if when <= self._now() and is_wanted and not self._ended.is_set():
                    self._disturb(name, tracer)
                    when, name = next(due)
                self._sample(tracer, churn)
        self._sample(tracer, churn, _LAST_LIMIT_S)
        self._outcome.spawned = churn.spawned
        self._outcome.last = tracer.ask("stop")

    def _is_owing(self, moments: list[str]) -> bool:
        """Tell whether anything that was to happen has not: samples may take long."""
        return len(self._outcome.happened) < len(moments)

    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _due(self, moments: list[str]) -> Iterator[tuple[float, str]]:
        """Yield when what is to happen: each at least once, in turn, as long as it goes on."""
        if not moments:
            return
        apart = min(self._seconds / (len(moments) + 1), _MOST_BETWEEN_MOMENTS_S)
        count = 0
        while True:
            yield apart * (count + 1), moments[count % len(moments)]
            count += 1

    def _disturb(self, name: str, tracer: Tracer) -> None:
        at_s, trouble = self._now(), ""
        _say(f"{at_s:.0f} s: {MOMENTS[name].what}")
        try:
            MOMENTS[name].happen(tracer)
        except (NotHereError, OSError) as error:
            trouble = str(error)
        self._outcome.happened.append(Happened(at_s, name, trouble))

    def _sample(self, tracer: Tracer, churn: Churn, limit_s: float = _LIMIT_S) -> None:
        rss, peak = tracer.memory()
        figures = tracer.ask("figures")
        at_s = self._now()
        found = drift(tracer.living, patience_s=_PATIENCE_S, limit_s=limit_s)
        sample = Sample(
            at_s=at_s, rss_bytes=rss, peak_bytes=peak, spawned=churn.spawned,
            only_tree=len(found.only_tree), only_proc=len(found.only_proc),
            settled_s=found.settled_s, compared=found.compared,
            **{name: figures[name] for name in FROM_TRACER},
        )  # fmt: skip
        self._outcome.samples.append(sample)
        drifted = sample.only_tree + sample.only_proc if found.compared else "?"
        text = (
            f"{at_s:.0f} s of {self._seconds:.0f} s: "
            f"{rates(self._outcome.samples)[-1]:.0f} events/s, "
            f"RSS {rss / 1e6:.0f} MB, lag {sample.lag_worst_s * 1e3:.0f} ms, "
            f"drift {drifted}, lost {sample.lost}"
        )
        _say(text, passing=True)


def _possible(names: list[str], outcome: Outcome) -> list[str]:
    """Return the moments that this machine can have; note why not the others."""
    found = []
    for name in names:
        try:
            MOMENTS[name].check()
        except NotHereError as error:
            outcome.refused[name] = str(error)
        else:
            found.append(name)
    return found


def _rate(options: argparse.Namespace, outcome: Outcome, directory: Path) -> float:
    if options.rate:
        return float(options.rate)
    _say("measuring how many processes a second saturate two CPUs")
    outcome.asked["saturation_per_s"] = saturated = saturation(directory)
    return saturated / 2


def _conditions(
    names: list[str], outcome: Outcome, until_the_end: ExitStack
) -> dict[str, Condition]:
    """Return the conditions that this machine can have; note why not the others."""
    found = {}
    for name in names:
        try:
            found[name] = until_the_end.enter_context(CONDITIONS[name]())
        except NotHereError as error:
            outcome.refused[name] = str(error)
        else:
            outcome.conditions[name] = found[name].what
    return found


def _soak(options: argparse.Namespace, outcome: Outcome, ended: threading.Event) -> None:
    with ExitStack() as until_the_end:
        directory = Path(until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        build(directory)
        outcome.asked["rate"] = rate = _rate(options, outcome, directory)
        moments = _possible([name for name in options.disturb if name in MOMENTS], outcome)
        wanted = [name for name in options.disturb if name in CONDITIONS]
        wanted += [MOUNTS] if "remount" in moments else []
        conditions = _conditions(wanted, outcome, until_the_end)
        before = [word for one in conditions.values() for word in one.before]
        try:
            with tracing(f"{directory}/name-", before, directory / "err") as tracer:
                outcome.asked["source"] = tracer.source
                _Run(options, outcome, ended).go(tracer, Churn(directory, rate), moments)
        except TracerEndedError as error:
            outcome.failure = str(error)
        for name, condition in conditions.items():
            if said := condition.report():
                outcome.conditions[name] += f" ({said})"


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("minutes", type=_positive, metavar="MINUTES", help="how long, 0.5 for half a minute")
    add("--rate", type=_positive, default=0, metavar="N",
        help="spawn N processes a second, not half of what saturates two CPUs")  # fmt: skip
    add("--seconds-between", type=_positive, default=_BETWEEN_S, metavar="N",
        help="seconds between two samples (%(default)s)")  # fmt: skip
    add("--disturb", type=_names, default=[], metavar="NAME,...", help="see above")
    add("--json", type=Path, metavar="FILE", help="write all samples there")
    add("--svg", type=Path, metavar="FILE", help="write a picture of them there")
    return parser.parse_args(words)


def _positive(word: str) -> float:
    value = float(word)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{word} is not above 0")
    return value


def _names(words: str) -> list[str]:
    names = [word.strip() for word in words.split(",")]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(NAMES)}")
    return list(dict.fromkeys(names))


def _machine() -> dict[str, Any]:
    found = describe(str(_PROGRAM), sys.executable)
    return {name: value for name, value in found.items() if name != "peers"}


def _ignore_signals() -> None:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _let_signals_end(ended: threading.Event) -> None:
    """Have the first one set the event, and the second raise KeyboardInterrupt."""

    def end(_number: int, _frame: object) -> None:
        if ended.is_set():
            _ignore_signals()  # what was begun is undone in peace
            raise KeyboardInterrupt
        ended.set()

    for number in _ENDING:
        signal.signal(number, end)


def _measure(options: argparse.Namespace, ended: threading.Event) -> int:
    machine = _machine()
    asked = {"minutes": options.minutes, "seconds_between": options.seconds_between}
    outcome = Outcome({**asked, "disturb": options.disturb})
    _soak(options, outcome, ended)
    _say("done" if outcome.is_good else "done, and not all is well")
    sys.stdout.write(markdown(outcome, machine))
    sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(outcome.as_json(machine), indent=1) + "\n")
    if options.svg:
        options.svg.write_text(svg(outcome))
    return int(not outcome.is_good)


def main() -> int:
    """Soak, and write what was found."""
    options = _options(sys.argv[1:])
    if os.geteuid() != 0:
        sys.exit("soak: root is needed; run it with sudo")
    ended = threading.Event()
    _let_signals_end(ended)
    try:
        return _measure(options, ended)
    except KeyboardInterrupt:
        _say("ended at once, without figures")
        return 128 + signal.SIGINT
    finally:
        _ignore_signals()


if __name__ == "__main__":
    sys.exit(main())
