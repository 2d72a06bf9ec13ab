"""A run's figures as a table, as JSON, and as the page in docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from once import Outcome
    from tally import Tally

_QUESTIONS = {
    "pairs": "is_descendant, over all pairs",
    "names": "is_descendant, by name",
    "meanwhile": "is_descendant, while it grows",
}


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """Return a run for JSON."""
    return {
        "seed": outcome.seed,
        "processes": outcome.processes,
        "events": outcome.events,
        "spawned": outcome.spawned,
        "seconds": round(outcome.seconds, 3),
        "rows": {name: row.as_dict() for name, row in outcome.rows.items()},
        "questions": {name: outcome.answers[name] for name in _QUESTIONS},
        "losses": [loss._asdict() | {"silent": loss.is_silent} for loss in outcome.losses],
        "repaired_s": outcome.answers["repaired_s"],
        "living_wrong": outcome.answers["living_wrong"],
        "wrong": wrong_of(outcome),
    }


def wrong_of(outcome: Outcome) -> int:
    """Count what must never be: confident wrong facts and answers, and losses not told."""
    wrong = sum(row.wrong for row in outcome.rows.values())
    for name in _QUESTIONS:
        wrong += outcome.answers[name]["wrong_yes"] + outcome.answers[name]["wrong_no"]
    return wrong + sum(loss.is_silent for loss in outcome.losses)


def is_whole(outcome: Outcome) -> bool:
    """Tell whether all was told, and all of it right."""
    rows = outcome.rows.values()
    return not wrong_of(outcome) and not any(row.absent or row.doubted for row in rows)


def _share(value: float | None) -> str:
    """Round down, so that 1.000000 means all of them."""
    return "-" if value is None else f"{int(value * 1_000_000) / 1_000_000:.6f}"


def _row(row: Tally) -> list[str]:
    counts = [row.right, row.wrong, row.doubted, row.absent]
    return [row.name, _share(row.precision), _share(row.recall), *map(_number, counts)]


def _number(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def sum_up(outcomes: Sequence[Outcome]) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
    """Return the rows of three tables, headings first: facts, questions, losses."""
    facts = [["", "precision", "recall", "right", "wrong", "doubted", "not told"]]
    for name, first in outcomes[0].rows.items():
        total = type(first)(name)
        for outcome in outcomes:
            total += outcome.rows[name]
        facts.append(_row(total))
    questions = [["", "asked", "right yes", "right no", "unknown", "wrong yes", "wrong no"]]
    for name, title in _QUESTIONS.items():
        columns = ("asked", "right_yes", "right_no", "unknown", "wrong_yes", "wrong_no")
        sums = [sum(outcome.answers[name][column] for outcome in outcomes) for column in columns]
        questions.append([title, *map(_number, sums)])
    lost = [["lost", "told", "missing here"]]
    for number, loss in enumerate(outcomes[0].losses):
        if not any(
            outcome.losses[number].told or outcome.losses[number].missing for outcome in outcomes
        ):
            continue
        told = sum(outcome.losses[number].told for outcome in outcomes)
        missing = sum(outcome.losses[number].missing for outcome in outcomes)
        lost.append([loss.kind, _number(told), _number(missing)])
    return facts, questions, lost


def _plain(table: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _markdown(table: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in table]
    return [lines[0], f"| --- |{' ---: |' * (len(table[0]) - 1)}", *lines[1:]]


def headline(outcomes: Sequence[Outcome]) -> str:
    """Say in a line how much was run, and what it comes to."""
    processes = sum(outcome.processes for outcome in outcomes)
    events = sum(outcome.events for outcome in outcomes)
    spawned = sum(outcome.spawned for outcome in outcomes)
    wrong = sum(map(wrong_of, outcomes))
    beside = f", beside {_number(spawned)} of a load" if spawned else ""
    return (
        f"{len(outcomes)} seed{'s' * (len(outcomes) > 1)}, {_number(processes)} processes, "
        f"{_number(events)} events{beside}: {_number(wrong)} wrong"
    )


def plain(title: str, outcomes: Sequence[Outcome]) -> str:
    """Return the tables as text for a terminal."""
    lines = [title, headline(outcomes)]
    for table in sum_up(outcomes):
        lines += ["", *_plain(table)] if table[1:] else []
    for outcome in outcomes:
        lines += [f"  seed {outcome.seed}: {example}" for example in examples_of(outcome)]
        if outdated := outcome.answers["names"]["outdated_yes"]:
            lines.append(f"  seed {outcome.seed}: {outdated} yes of a name that was had before")
        lines.append(f"  seed {outcome.seed}: {repair_of(outcome)}")
    return "\n".join([*lines, ""])


def _repairs(outcomes: Sequence[Outcome]) -> str:
    """Say of all runs whether the trees' living were those of /proc in the end."""
    asked = [
        o for o in outcomes if o.answers["repaired_s"] is not None or o.answers["living_wrong"]
    ]
    if not asked:
        return ""
    seconds = [o.answers["repaired_s"] for o in asked if o.answers["repaired_s"] is not None]
    latest = f", after {max(seconds):.2f} s at the latest" if seconds else ""
    return (
        f"The tree's living were those of `/proc` at the end of {len(seconds)} of {len(asked)} "
        f"seeds{latest}."
    )


def repair_of(outcome: Outcome) -> str:
    """Say whether, and how soon, the tree's living were those of /proc."""
    seconds = outcome.answers["repaired_s"]
    if seconds is not None:
        return f"the tree's living were those of /proc {seconds:.2f} s after the end"
    wrong = outcome.answers["living_wrong"]
    return f"the tree's living are not those of /proc: {', '.join(wrong)}" if wrong else "filtered"


def examples_of(outcome: Outcome) -> list[str]:
    """Return some of what was wrong."""
    found = [f"{r.name}: {example}" for r in outcome.rows.values() for example in r.examples]
    for name in _QUESTIONS:
        found += [f"{name}: {example}" for example in outcome.answers[name]["examples"]]
    return found + [f"not told as lost: {loss}" for loss in outcome.losses if loss.is_silent]


def section(title: str, command: str, outcomes: Sequence[Outcome]) -> str:
    """Return the tables as a section of a page."""
    lines = [f"## {title}", "", f"`{command}`", "", f"{headline(outcomes)}.", ""]
    for table in sum_up(outcomes):
        lines += [*_markdown(table), ""] if table[1:] else []
    outdated = sum(outcome.answers["names"]["outdated_yes"] for outcome in outcomes)
    lines += [text, ""] if (text := _repairs(outcomes)) else []
    if outdated:
        lines += [f"By name, {_number(outdated)} wrong yes are of a name that was had before.", ""]
    return "\n".join([*lines, ""]).rstrip("\n") + "\n"
