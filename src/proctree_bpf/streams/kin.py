"""Whose child a process is by what the proc connector says, and who else may have created it. Pure.

The message of a fork names the parent. That is who called fork, unless one of the parent's children
called clone with CLONE_PARENT: so the parent is certain to be the creator only if it has no other
child. No message says who adopts an orphan: it may be any of those above its former parent. So
each of these may have more children than are known, from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.streams.holder import Holder


def is_born(child: Holder, parent: Holder) -> bool:
    """Take note of a birth; tell whether the parent is certain to be the creator."""
    is_certain = not parent.may_have_more and not parent.children
    have(child, parent)
    return is_certain


def have(child: Holder, parent: Holder) -> None:
    """Take note of a parent and its child."""
    if child is not parent:
        child.parent = parent
        parent.children.add(child)


def leave(holder: Holder) -> None:
    """Take note that a process has ended, or is another than was thought; twice does no harm."""
    parent, holder.parent = holder.parent, None
    if parent is not None:
        parent.children.discard(holder)
    if not holder.children:
        return
    for child in holder.children:
        child.parent = None
    holder.children.clear()
    # Those above one that may have more were marked before.
    while parent is not None and not parent.may_have_more:
        parent.may_have_more = True
        parent = parent.parent


class Meeting:
    """Finds the parents of the processes that a snapshot of ``/proc`` shows.

    Args:
        present: who has a PID now.

    """

    def __init__(self, present: Callable[[int], Holder | None]) -> None:
        self._present = present
        self._met: set[Holder] = set()
        self._without_parent: dict[Holder, int] = {}

    def __contains__(self, holder: Holder) -> bool:
        """Tell whether some of the children of a process may still be to come."""
        return holder in self._met

    def add(self, holder: Holder, ppid: int) -> None:
        """Take note of a process that was not known."""
        self._met.add(holder)
        self._without_parent[holder] = ppid

    def link(self, *, is_last: bool) -> None:
        """Look for the parents of those that were added; ``is_last``: all have been added."""
        for holder, ppid in list(self._without_parent.items()):
            parent = self._present(ppid)
            if parent is not None and parent.born_ns <= holder.born_ns:
                have(holder, parent)
            if holder.parent is not None or not ppid or self._present(holder.key.pid) is not holder:
                del self._without_parent[holder]
        if not is_last:
            return
        if self._without_parent:  # adopted meanwhile
            for holder in self._met:
                holder.may_have_more = True
        self._met.clear()
        self._without_parent.clear()
