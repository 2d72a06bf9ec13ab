"""What is wanted, and where that is decided: in the kernel if it can be, and here.

One planner for the command line and for ``Collector``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from proctree_bpf.core.text import visible
from proctree_bpf.errors import FilterError
from proctree_bpf.filters.kernel_controller import KernelFilterController, followed_by
from proctree_bpf.filters.kernel_plan import KernelPlan, is_glob, plan_kernel_filter
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.system.cgroups import CgroupPaths, hierarchy
from proctree_bpf.sources.system.procfs import uid_of_user, user_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.filters.terms import Filter, Question
    from proctree_bpf.sources.base import EventSource
    from proctree_bpf.sources.choose import SourceOptions


# Some 250 MB that the kernel sets aside; beyond that the filter goes on in user space.
_MOST_SLOTS = 1 << 20


def _with_real_path(question: Question) -> Question:
    """Also ask for the file that a path leads to: that is what the kernel tells."""
    if question.term.name != "ancestor-exe":
        return question
    paths = question.alternatives
    real = [os.path.realpath(path) for path in paths if not is_glob(path)]
    return replace(question, alternatives=tuple(dict.fromkeys((*paths, *real))))


def _with_user_ids(question: Question) -> Question:
    """Also ask for the uids of names: a uid may have several.

    Raises:
        FilterError: there is no such user.

    """
    if question.term.name != "user":
        return question
    names = [user for user in question.alternatives if not user.isdecimal()]
    ids = {name: uid_of_user(name) for name in names}
    for name, uid in ids.items():
        if uid is None:
            raise FilterError(
                f"there is no user {visible(name)} here; give the name or the uid of a user"
            )
    return replace(question, alternatives=(*question.alternatives, *map(str, ids.values())))


class FilterPlan:
    """Makes what filters events of a filter: the part for the kernel, and the part here.

    Args:
        wanted: the filter.
        slots: how many processes the kernel's side may know.
        why_not_in_kernel: why the kernel must not leave anything out, if so.
        of_command: if only a command's processes are shown, tells who is one of them.
        is_of_here: the events are of this machine, so its users are meant.

    Raises:
        FilterError: it names a cgroup or a user that is not there.

    """

    def __init__(
        self,
        wanted: Filter,
        slots: int,
        *,
        why_not_in_kernel: str | None = None,
        of_command: Callable[[TrackedProcess], bool] | None = None,
        is_of_here: bool = True,
    ) -> None:
        self._wanted = wanted
        self.questions = [_with_real_path(question) for question in wanted.questions]
        """What is asked of events; empty if all are wanted."""
        if is_of_here:
            self.questions = [_with_user_ids(question) for question in self.questions]
        self._slots = min(slots, _MOST_SLOTS)
        self._of_command = of_command
        self._cgroups = CgroupPaths(hierarchy())
        self.kernel = self._plan_kernel(why_not_in_kernel)
        """What the kernel decides, or why it does not."""
        self.was_refused = False
        """Whether the kernel did not take its part, though it could decide it."""
        self._check_cgroups()

    def _plan_kernel(self, why_not: str | None) -> KernelPlan:
        if why_not is not None:
            return KernelPlan(None, why_not)
        return plan_kernel_filter(
            self.questions,
            by_parent=self._wanted.by_parent,
            of_command=self._of_command is not None,
        )

    def _check_cgroups(self) -> None:
        for question in self._wanted.questions:
            for path in question.alternatives if question.term.name == "cgroup" else ():
                if self._cgroups.directory(path) is None:
                    self._check_cgroup_namespace()
                    raise FilterError(
                        f"there is no cgroup {visible(path)} in the cgroup v2 hierarchy; "
                        "give a path as /proc/PID/cgroup shows it after '0::'"
                    )

    def _check_cgroup_namespace(self) -> None:
        there = self._cgroups.hierarchy
        if there is not None and there.is_foreign:
            raise FilterError(
                f"{there.mount} shows the cgroups of another cgroup namespace; mount this "
                "one's with 'mount -t cgroup2 cgroup2 DIRECTORY', or give a path below there",
                is_unsupported=True,
            )

    def source_options(self, options: SourceOptions) -> SourceOptions:
        """Have the BPF source prepared for a filter, if the kernel is to decide it."""
        if self.kernel.spec is None:
            return options
        bpf = replace(options.bpf, kernel_filter_spec=self.kernel.spec, filter_slots=self._slots)
        return replace(options, bpf=bpf)

    def filter_for(self, tree: TreeStore, cache: CacheStore) -> BoundFilter | None:
        """Return the filter over a tree; None if all is wanted."""
        if not self.questions:
            return None
        wanted = replace(self._wanted, questions=tuple(self.questions))
        return BoundFilter(wanted, tree, cache, self._cgroups)

    def check_source(self, source: EventSource) -> None:
        """Refuse a source that does not report what the filter asks for.

        Raises:
            FilterError: so it is.

        """
        asks_cgroup = any(q.term.name == "cgroup" for q in self.questions)
        if asks_cgroup and source.name not in ("bpf", "replay"):
            raise FilterError(
                f"the source is {source.name}, and only bpf reports cgroups; "
                "use the source bpf, or leave out the cgroup",
                is_unsupported=True,
            )

    def start_kernel_filter(
        self, source: EventSource, wanted: BoundFilter | None
    ) -> KernelFilterController | None:
        """Return what keeps a filter in the kernel in step with the one here, if it decides."""
        follows = self._of_command or (followed_by(wanted) if wanted is not None else None)
        if self.kernel.spec is None or follows is None:
            return None
        if isinstance(source, BpfSource) and source.kernel_filter is not None:
            return KernelFilterController(source.kernel_filter, follows, user_of)
        if isinstance(source, BpfSource) and source.filter_refusal is not None:
            reason = f"with a filter in the kernel, {source.filter_refusal.reason}"
            self.was_refused = True
        else:
            reason = f"the source is {source.name}, and only bpf can filter in the kernel"
        self.kernel = KernelPlan(None, reason)
        return None
