"""What a trace tells its user on stderr: at its start, when room is short, and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.messages import counted, say

if TYPE_CHECKING:
    from proctree_bpf.filter_plan import FilterPlan
    from proctree_bpf.pipeline import Pipeline
    from proctree_bpf.sinks.tally import Tally


_NEAR_A_GAP = "names and ancestors near a gap may be incomplete"
_HELPS = {
    "bpf": "a larger --perf-pages helps, and so do fewer events",
    "proc-connector": "a larger --receive-buffer helps, and so do fewer events",
    "proc-walker": "a shorter --walk-interval helps",
}


def _after_losses(source: str) -> str:
    """Say what losses mean, and what helps; of a recording, nothing does."""
    return "; ".join([_NEAR_A_GAP, *filter(None, [_HELPS.get(source)])])


def say_start(pipeline: Pipeline, startup: float, command_note: str | None) -> None:
    """Tell that the trace has begun, and what is run if a command is traced."""
    say(
        f"tracing with {pipeline.source.name}, {pipeline.stats.snapshot} processes known, "
        f"started in {startup:.2f} s; "
        f"{command_note or 'press Ctrl-C to stop'}"
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
        say(_after_losses(summary["source"]))
    if blind_spots:
        say(f"{summary['source']} cannot know: {'; '.join(blind_spots)}")


def say_where_filtered(summary: dict[str, Any], plan: FilterPlan) -> None:
    """Tell where the filter was decided, if there was one."""
    kernel = summary["kernel_filter"]
    given_up = kernel["given_up"] if kernel else None
    if not plan.questions and not given_up and not plan.was_refused:
        return
    in_user_space = f"{counted(summary['filtered'], 'event')} left out in user space"
    if kernel is None:
        say(f"{in_user_space}, because {plan.kernel.reason}")
    elif given_up and not kernel["times_on"]:
        say(f"{in_user_space}, because the filter in the kernel gave up: {given_up}")
    else:
        dropped = counted(summary.get("dropped_in_kernel", 0), "event")
        until = f", until it gave up ({given_up}); from then on, in user space"
        say(f"{dropped} left out by the filter in the kernel{until if given_up else ''}")


def say_evicted_living(capacity: int) -> None:
    """Tell that living processes were forgotten, and what that means."""
    say(
        f"there are more than {capacity} processes at once, so some living ones were forgotten, "
        "and the ancestors of their children are not known; a larger --capacity helps"
    )


def say_only_loss(summary: dict[str, Any]) -> None:
    """Tell what was lost, if anything was."""
    if summary.get("lost"):
        say(f"{_loss(summary)}; {_after_losses(summary['source'])}")


def _loss(summary: dict[str, Any]) -> str:
    lost = summary.get("lost", 0)
    if not lost:
        return ""
    return f"{counted(lost, 'record')} LOST ({counted(summary['gaps'], 'gap')})"


def _kept(summary: dict[str, Any]) -> str:
    forgotten = summary.get("evicted_living", 0)
    if not forgotten:
        return "nothing lost"
    return f"nothing lost, but {forgotten} living processes were forgotten for lack of room"
