"""Measure what proctree-bpf costs and what it tells, beside other tools and plain Python.

    sudo scripts/bench/run [--quick] [--row NAME...] [--json FILE] [--markdown FILE]

Every row is measured by itself and in limited time; one that fails is reported as failed and
the others go on. All ratios are taken side by side: what is compared was run in turn, in a new
order each round, so give it a machine that does nothing else. Figures are medians, and their
spread is the lowest and the highest. It needs root and a C compiler. Exit status 0 if all rows
were measured, 1 if one has failed, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import figures
from context import ROOT, Bench, python_of, say
from figures import FAILED, NOT_RUN, NotRunError, Result
from machine import describe
from rows import FULL_S, QUICK_S, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rows import Row


# A tmpfs on every Linux.
_MEMORY = Path("/dev/shm")  # noqa: S108 - the directory in it has a name of its own


class _OutOfTimeError(Exception):
    """A row took longer than it may."""


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    if seconds < 1:
        raise _OutOfTimeError("the rows before it took all the time that there was")

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise _OutOfTimeError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def measure(row: Row, bench: Bench, left_s: float) -> Result:
    """Measure one row in at most so many seconds; whatever goes wrong is in its result."""
    result = Result(row.name, row.title)
    begun = time.monotonic()
    say(f"{row.name} ...")
    try:
        with _limited(int(min(bench.pick(row.quick_s, row.full_s), left_s))):
            for figure in row.measure(bench):
                result.figures.append(figure)
    except NotRunError as reason:
        result.status, result.reason = NOT_RUN, str(reason)
    except Exception as error:  # noqa: BLE001 - one row must not end the rest
        result.status, result.reason = FAILED, f"{type(error).__name__}: {error}"
    result.seconds = time.monotonic() - begun
    for line in figures.lines_of(result):
        say(line)
    return result


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="shorter, in under three minutes; rough figures")
    add("--row", action="extend", nargs="+", choices=list(ROWS), metavar="NAME",
        help="only these rows")  # fmt: skip
    add("--list", action="store_true", help="list the rows")
    add("--json", type=Path, metavar="FILE", help="write all samples there")
    add("--markdown", type=Path, metavar="FILE", help="write the table there, not to stdout")
    add("--program", metavar="PATH", default=str(ROOT / ".venv" / "bin" / "proctree-bpf"),
        help="the proctree-bpf to measure, of another checkout perhaps (%(default)s)")  # fmt: skip
    add("--no-install", action="store_true", help="install no other tools")
    options = parser.parse_args(words)
    if not os.access(options.program, os.X_OK):
        parser.error(f"{options.program} cannot be run")
    return options


def _chosen(options: argparse.Namespace) -> list[Row]:
    if options.row:
        return [ROWS[name] for name in ROWS if name in options.row]
    return [row for row in ROWS.values() if row.quick_s or not options.quick]


def main() -> int:
    """Measure, and write what was found."""
    options = _options(sys.argv[1:])
    if options.list:
        sys.stdout.writelines(f"{row.name:16} {row.title}\n" for row in ROWS.values())
        return 0
    if os.geteuid() != 0:
        sys.exit("bench: root is needed; run it with sudo")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    program = str(Path(options.program).resolve())
    python = python_of(program)
    about = {**describe(program, python), "quick": options.quick}
    prefix = "proctree-bpf-bench-"
    memory = str(_MEMORY) if os.path.ismount(_MEMORY) else None
    with (
        tempfile.TemporaryDirectory(prefix=prefix) as on_disk,
        tempfile.TemporaryDirectory(prefix=prefix, dir=memory) as in_memory,
    ):
        bench = Bench(program, python, Path(on_disk), Path(in_memory), options.quick)
        until = time.monotonic() + bench.pick(QUICK_S, FULL_S)
        results = [measure(row, bench, until - time.monotonic()) for row in _chosen(options)]
    text = figures.markdown(about, results)
    if options.markdown:
        options.markdown.write_text(text)
    else:
        sys.stdout.write(text)
    if options.json:
        rows = [result.as_json() for result in results]
        options.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
    return int(any(result.status == FAILED for result in results))


if __name__ == "__main__":
    sys.exit(main())
