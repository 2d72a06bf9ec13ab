"""Runs ``trace -- COMMAND`` to its end."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.program import PROGRAM, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Starts at once, for what does not depend on the source.
QUICK = ("--source", "proc-connector", "-o", os.devnull)


@dataclass(frozen=True)
class Run:
    """How a run ended, in bytes."""

    code: int
    out: bytes
    err: bytes


def of_command(
    *words: str | bytes,
    before: Sequence[str] = (),
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Run:
    """Run ``trace`` with these words."""
    done = subprocess.run(
        [*before, *PROGRAM, "trace", *words],
        input=stdin,
        capture_output=True,
        env=environment(env),
        pass_fds=pass_fds,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    return Run(done.returncode, done.stdout, done.stderr)
