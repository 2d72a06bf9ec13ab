"""What of a filter the kernel can decide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.filters.kernel_port import MAX_NAMES, KernelFilterSpec, fits
from proctree_bpf.filters.terms import ancestral

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from proctree_bpf.filters.terms import Question

_DECIDABLE = ("ancestor", "ancestor-pid", "ancestor-exe")
_GLOB = re.compile(r"[*?[]")


class KernelPlan(NamedTuple):
    """What the kernel is to look for; None if it cannot decide, and then the reason."""

    spec: KernelFilterSpec | None
    reason: str = ""
    """One clause, without a capital or a full stop."""


def plan_kernel_filter(
    questions: Sequence[Question], *, by_parent: bool, of_command: bool = False
) -> KernelPlan:
    """Return what the kernel is to look for, or the reason why it cannot decide.

    What it leaves out is sure not to be wanted; of the rest, the filter here decides. So it
    may follow everyone that any question about ancestors is about, if one of them is
    asked for; or those of a command, if nothing else is shown.
    """
    if by_parent:
        return KernelPlan(None, "--by-parent cannot be decided in the kernel")
    if of_command:
        return KernelPlan(KernelFilterSpec())
    asked = ancestral(questions)
    reason = _reason_against(asked or questions)
    if reason is not None:
        return KernelPlan(None, reason)
    names = [name for q in asked if q.term.name == "ancestor" for name in q.alternatives]
    paths = [path for q in asked if q.term.name == "ancestor-exe" for path in q.alternatives]
    files = list(_forms(paths))
    if not all(fits(path) for path in files):
        return KernelPlan(None, "a path of --ancestor-exe is too long for the kernel")
    if max(len(names), len(files)) > MAX_NAMES:
        return KernelPlan(None, f"the kernel can look for at most {MAX_NAMES} names or files")
    return KernelPlan(KernelFilterSpec(tuple(names), tuple(files)))


def _reason_against(asked: Sequence[Question]) -> str | None:
    if not asked:
        return "there is no filter"
    for question in asked:
        if question.term.name not in _DECIDABLE:
            return f"--{question.term.name} cannot be decided in the kernel"
        if question.term.name == "ancestor-exe" and any(map(is_glob, question.alternatives)):
            return "a pattern of --ancestor-exe cannot be decided in the kernel"
    if all(question.negated for question in asked):
        return "a filter that only leaves ancestors out cannot be decided in the kernel"
    return None


def is_glob(path: str) -> bool:
    """Tell whether a path is a pattern (fnmatch)."""
    return _GLOB.search(path) is not None


def _forms(paths: Iterable[str]) -> Iterator[str]:
    """Yield each path as the kernel may have it; others, such as a/../b, nobody has."""
    for path in paths:
        if path.startswith("/"):
            yield path
            yield f"{path} (deleted)"  # which is taken off here, whoever put it there
