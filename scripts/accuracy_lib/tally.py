"""Counts of right and wrong, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

_MOST_EXAMPLES = 5


@dataclass(slots=True)
class Tally:
    """How often something was told right, wrong, doubtfully wrong, or not at all."""

    name: str
    right: int = 0
    wrong: int = 0
    doubted: int = 0
    """Wrong, but the record says that it may be."""
    absent: int = 0
    examples: list[str] = field(default_factory=list)
    """The first wrong ones."""

    def add(self, name: str, count: int = 1, example: str = "") -> None:
        """Count one more: ``name`` is right, wrong, doubted or absent."""
        setattr(self, name, getattr(self, name) + count)
        if name == "wrong" and example and len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(example)

    @property
    def precision(self) -> float | None:
        """The share of what was told without doubt that is right; None if nothing was."""
        told = self.right + self.wrong
        return self.right / told if told else None

    @property
    def recall(self) -> float | None:
        """The share of what there was to tell that was told right; None if there was nothing."""
        whole = self.right + self.wrong + self.doubted + self.absent
        return self.right / whole if whole else None

    def __iadd__(self, other: Tally) -> Self:
        for name in ("right", "wrong", "doubted", "absent"):
            self.add(name, getattr(other, name))
        self.examples = (self.examples + other.examples)[:_MOST_EXAMPLES]
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "right": self.right, "wrong": self.wrong, "doubted": self.doubted,
            "absent": self.absent, "precision": self.precision, "recall": self.recall,
            "examples": self.examples,
        }  # fmt: skip


@dataclass(slots=True)
class Answers:
    """What was answered to questions whose answers are known."""

    name: str
    right_yes: int = 0
    right_no: int = 0
    wrong_yes: int = 0
    wrong_no: int = 0
    unknown: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """How many questions there were."""
        return self.right_yes + self.right_no + self.wrong_yes + self.wrong_no + self.unknown

    def add(self, answer: str, *, truth: bool, example: str = "") -> None:
        """Count an answer: ``yes``, ``no`` or ``unknown``."""
        if answer == "unknown":
            self.unknown += 1
            return
        is_right = (answer == "yes") == truth
        name = f"{'right' if is_right else 'wrong'}_{answer}"
        setattr(self, name, getattr(self, name) + 1)
        if not is_right and len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(f"{answer}: {example}")

    def __iadd__(self, other: Answers) -> Self:
        for name in ("right_yes", "right_no", "wrong_yes", "wrong_no", "unknown"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples = (self.examples + other.examples)[:_MOST_EXAMPLES]
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "asked": self.asked, "right_yes": self.right_yes, "right_no": self.right_no,
            "wrong_yes": self.wrong_yes, "wrong_no": self.wrong_no, "unknown": self.unknown,
            "examples": self.examples,
        }  # fmt: skip
