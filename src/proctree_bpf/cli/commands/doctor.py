"""``proctree-bpf doctor``: what this machine allows, and how to mend what it does not."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proctree_bpf.cli.doctor.checks import examine
from proctree_bpf.cli.doctor.finding import Verdict
from proctree_bpf.cli.errors import ExitCode
from proctree_bpf.cli.output.standard import write_text
from proctree_bpf.core.text import visible
from proctree_bpf.sources.choose import LIVE

if TYPE_CHECKING:
    from proctree_bpf.cli.doctor.finding import Finding


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Try everything that proctree-bpf needs on this machine, and say how to mend what fails.

    The exit status is 0 if at least one source of events works, and 69 if none does.

    \b
    Example:
      sudo proctree-bpf doctor
    """
    findings: dict[str, Finding] = {}
    for check, finding in examine():
        findings[check] = finding
        if not as_json:
            write_text(_line(check, finding))  # one by one: the sources take a second
    working = (name for name in LIVE if findings[f"source {name}"].verdict is Verdict.PASS)
    chosen = next(working, None)
    if as_json:
        report: dict[str, Any] = {
            "user": os.geteuid(),
            "kernel": os.uname().release,
            "findings": [
                {"check": check, **finding._asdict()} for check, finding in findings.items()
            ],
            "source": chosen,
        }
        write_text(json.dumps(report, indent=2))
    else:
        write_text(f"\n--source auto uses {chosen or 'nothing here: no source works'}.")
    if chosen is None:
        raise SystemExit(ExitCode.UNAVAILABLE)


def _line(check: str, finding: Finding) -> str:
    time_taken = f" ({finding.seconds:.2f} s)" if finding.seconds is not None else ""
    text = f"{finding.verdict:<4}  {check}: {visible(finding.detail)}{time_taken}"
    return f"{text}\n      to mend it: {visible(finding.remedy)}" if finding.remedy else text
