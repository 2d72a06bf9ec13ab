"""What a trace tells its user on stderr: at its start, when room is short, and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.advice import after_losses
from proctree_bpf.cli.exits import say

if TYPE_CHECKING:
    from proctree_bpf.cli.attendance import Attendance
    from proctree_bpf.pipeline import Pipeline
    from proctree_bpf.sinks.tally import Tally


def say_start(pipeline: Pipeline, startup: float, attendance: Attendance | None) -> None:
    """Tell that the trace has begun."""
    say(
        f"tracing with {pipeline.source.name}, {pipeline.stats.snapshot} processes known, "
        f"started in {startup:.2f} s; "
        f"{'press Ctrl-C to stop' if attendance is None else attendance.welcome}"
    )


def say_summary(
    summary: dict[str, Any], elapsed: float, tally: Tally, blind_spots: tuple[str, ...]
) -> None:
    """Tell what was written and lost, and who ran most."""
    written = ", ".join(f"{count} {kind}" for kind, count in summary["written"].items())
    say(f"{elapsed:.1f} s: {written} records written; {_loss(summary) or _kept(summary)}")
    for line in tally.lines():
        say(line)
    if summary.get("lost"):
        say(after_losses(summary["source"]))
    if blind_spots:
        say(f"{summary['source']} cannot know: {'; '.join(blind_spots)}")


def say_crowded(capacity: int) -> None:
    """Tell that living processes were forgotten, and what that means."""
    say(
        f"more than {capacity} processes are there at once, so some that live were "
        "forgotten: under whom their children run is not known; a larger --capacity helps"
    )


def say_only_loss(summary: dict[str, Any]) -> None:
    """Tell what was lost, if anything was."""
    if summary.get("lost"):
        say(f"{_loss(summary)}; {after_losses(summary['source'])}")


def _loss(summary: dict[str, Any]) -> str:
    lost = summary.get("lost", 0)
    return f"{lost} records LOST ({summary['gaps']} gaps)" if lost else ""


def _kept(summary: dict[str, Any]) -> str:
    forgotten = summary.get("evicted_living", 0)
    if not forgotten:
        return "nothing lost"
    return f"nothing lost, but {forgotten} living processes forgotten for want of room"
