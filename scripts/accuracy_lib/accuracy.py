"""Measure how often the tree is right: random forests of processes, and what is told of them.

    sudo scripts/accuracy [--seed N] [--seeds N] [--source SOURCE] [--filter TERMS] [--load N]
                          [--perf-pages N] [--stop-reader S] [--duration S] [--json FILE]
                          [--markdown FILE] [-- CMD]

A forest is grown from a seed: its processes are created, renamed, executed and ended in every
way there is, and say so themselves; wait(2) says how they ended. The real program traces it, and
the library is asked who came from whom. Exit status 0 if nothing that was told is wrong, 1 if
something is, 2 for wrong usage, 3 if it could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import page
import report
from context import python_of
from figures import NotRunError
from forest import build
from once import Run
from plan import ROOT, Plan
from wanted import TERMS

from sources import SOURCES

if TYPE_CHECKING:
    from once import Outcome

COMMAND = "CMD"
_NOT_RUN = 3


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="what the forest is made from (%(default)s)",
    )
    add("--seeds", type=int, default=1, metavar="N", help="how many, from --seed on (%(default)s)")
    add("--source", choices=SOURCES, default="bpf", help="where events come from (%(default)s)")
    add("--filter", default="", metavar="TERMS", help=f"trace with a filter: {', '.join(TERMS)}, "
        "with or without not-, as ancestor=oak")  # fmt: skip
    add("--load", type=int, default=0, metavar="N",
        help="how many spawners run meanwhile, as fast as they can")  # fmt: skip
    add("--perf-pages", type=int, default=0, metavar="N", help="pages in each CPU's buffer")
    add("--stop-reader", type=float, default=0.0, metavar="S",
        help="stop the program and the library for S seconds")  # fmt: skip
    add("--duration", type=float, default=0.0, metavar="S",
        help="grow one forest after another for S seconds")  # fmt: skip
    add("--size", type=int, default=400, metavar="N", help="processes of a forest (%(default)s)")
    add("--pace", type=int, metavar="MS", help="a process waits up to MS milliseconds before "
        "it ends (0; with proc-walker 600)")  # fmt: skip
    add("--questions", type=int, default=1_000_000, metavar="N",
        help="ask about N pairs, beside all that are related (%(default)s)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    add("--markdown", type=Path, metavar="FILE", help="put the table into that page")
    add("--program", metavar="PATH", default=str(ROOT / ".venv" / "bin" / "proctree-bpf"),
        help="the proctree-bpf to judge (%(default)s)")  # fmt: skip
    add("command", nargs="?", metavar=COMMAND, choices=[COMMAND],
        help="CMD: the forest is what is traced by 'trace -- COMMAND'")  # fmt: skip
    options = parser.parse_args(words)
    if options.seeds < 1 or options.size < 1 or options.questions < 1:
        parser.error("--seeds, --size and --questions must be at least 1")
    if not os.access(options.program, os.X_OK):
        parser.error(f"{options.program} cannot be run")
    if options.command and (options.duration or options.stop_reader):
        parser.error("a command is one forest, and its reader is not stopped")
    return options


def _plan(options: argparse.Namespace) -> Plan:
    program = str(Path(options.program).resolve())
    pace_ms = options.pace
    if pace_ms is None:
        pace_ms = 600 if options.source == "proc-walker" else 0
    return Plan(
        program, python_of(program), options.seed, options.source, options.filter,
        bool(options.command), options.load, options.perf_pages, options.stop_reader,
        options.size, options.duration, pace_ms, options.questions,
    )  # fmt: skip


def run_all(plan: Plan, seeds: int) -> list[Outcome]:
    """Run one seed after another."""
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-accuracy-") as name:
        place = Path(name)
        forest = place / "forest"
        forest.mkdir()
        place.chmod(0o755)
        build(forest)
        for number in range(seeds):
            directory = place / f"run-{number}"
            directory.mkdir()
            one = replace(plan, seed=plan.seed + number)
            outcome = Run(one, forest, directory).run()
            outcomes.append(outcome)
            sys.stderr.write(f"accuracy: seed {one.seed}: {report.headline([outcome])}\n")
            shutil.rmtree(directory)
    return outcomes


def main() -> int:
    """Measure, and write what was found."""
    words = sys.argv[1:]
    options = _options(words)
    if os.geteuid() != 0:
        sys.exit("accuracy: root is needed; run it with sudo")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        outcomes = run_all(_plan(options), options.seeds)
    except NotRunError as reason:
        sys.stderr.write(f"accuracy: {reason}\n")
        return _NOT_RUN
    title = page.title_of(options)
    sys.stdout.write(report.plain(title, outcomes))
    if options.json:
        found = {"title": title, "runs": [report.as_dict(outcome) for outcome in outcomes]}
        options.json.write_text(json.dumps(found, indent=1) + "\n", "ascii")
    if options.markdown:
        page.write(options.markdown, title, report.section(title, page.command_of(words), outcomes))
    return 1 if any(map(report.wrong_of, outcomes)) else 0
