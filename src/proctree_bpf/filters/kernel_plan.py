"""What of a filter the kernel can decide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proctree_bpf.filters.kernel_port import MAX_NAMES, KernelFilterSpec, fits
from proctree_bpf.filters.terms import ancestral

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from proctree_bpf.filters.terms import Question

_DECIDABLE = ("ancestor", "ancestor-pid", "ancestor-exe")
_GLOB = re.compile(r"[*?[]")


def plan_kernel_filter(
    questions: Sequence[Question], *, by_parent: bool, of_command: bool = False
) -> KernelFilterSpec | str:
    """Return what the kernel is to look for, or the reason why it cannot decide.

    What it leaves out is sure not to be wanted; of the rest, the filter here decides. So it
    may follow everyone that any question about ancestors is about, if one of them is
    asked for; or those of a command, if nothing else is shown.
    """
    if by_parent:
        return "it knows who created whom, and --by-parent asks for something else"
    if of_command:
        return KernelFilterSpec()
    asked = ancestral(questions)
    reason = _reason_against(asked)
    if reason is not None:
        return reason
    names = [name for q in asked if q.term.name == "ancestor" for name in q.alternatives]
    paths = [path for q in asked if q.term.name == "ancestor-exe" for path in q.alternatives]
    files = list(_forms(paths))
    if not all(fits(path) for path in files):
        return "the path of the program file is too long for it"
    if max(len(names), len(files)) > MAX_NAMES:
        return f"it can look for {MAX_NAMES} names or files at the most"
    return KernelFilterSpec(tuple(names), tuple(files))


def _reason_against(asked: Sequence[Question]) -> str | None:
    if all(question.negated for question in asked):
        return "it decides by the names, PIDs or program files of ancestors only"
    for question in asked:
        if question.term.name not in _DECIDABLE:
            return f"it cannot decide {question.term.name}"
        if question.term.name == "ancestor-exe" and any(map(is_glob, question.alternatives)):
            return "it looks for program files by their paths, not by globs"
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
