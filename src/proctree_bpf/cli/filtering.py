"""Where a trace's filter is decided: in the kernel when it can be, and here."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.exits import CliError, ExitCode, say
from proctree_bpf.cli.filter_options import FilterIn
from proctree_bpf.core.text import visible
from proctree_bpf.filters.kernel_controller import KernelFilterController, followed_by
from proctree_bpf.filters.kernel_plan import is_glob, plan_kernel_filter
from proctree_bpf.filters.record_filter import Filter
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.system.cgroups import CgroupPaths, hierarchy
from proctree_bpf.sources.system.procfs import uid_of_user, user_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.cli.filter_options import FilterOptions
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.filters.kernel_port import KernelFilterSpec
    from proctree_bpf.filters.terms import Question
    from proctree_bpf.pipeline import Pipeline
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
        CliError: there is no such user.

    """
    if question.term.name != "user":
        return question
    names = [user for user in question.alternatives if not user.isdecimal()]
    ids = {name: uid_of_user(name) for name in names}
    for name, uid in ids.items():
        if uid is None:
            raise CliError(
                f"there is no user {visible(name)} here; give the name of a user, or a uid.",
                ExitCode.NO,
            )
    return replace(question, alternatives=(*question.alternatives, *map(str, ids.values())))


class FilterPlan:
    """Makes the filter of a trace, and says where it was decided.

    Args:
        options: what is wanted.
        slots: how many processes the kernel's side may know.
        needed_here: why everything is needed here, if it is.
        is_of_here: the events are of this machine, so its users are meant.
        of_command: if only a command's processes are shown, tells who is one of them.

    Raises:
        CliError: the filter was to be decided in the kernel, which cannot; or it names a
            cgroup or a user that is not there.

    """

    def __init__(
        self,
        options: FilterOptions,
        slots: int,
        needed_here: str | None,
        of_command: Callable[[TrackedProcess], bool] | None,
        *,
        is_of_here: bool,
    ) -> None:
        self._options = options
        self._questions = [_with_real_path(question) for question in options.questions]
        if is_of_here:
            self._questions = [_with_user_ids(question) for question in self._questions]
        self._is_refused = False
        self._slots = min(slots, _MOST_SLOTS)
        self._of_command = of_command
        self._cgroups = CgroupPaths(hierarchy())
        self._part: KernelFilterSpec | str = self._decidable(needed_here)
        if options.where is FilterIn.KERNEL and isinstance(self._part, str):
            raise CliError(
                f"the kernel cannot decide this filter: {self._part}; leave out --filter-in.",
                ExitCode.USAGE,
            )
        self._check_cgroups()

    def _decidable(self, needed_here: str | None) -> KernelFilterSpec | str:
        if not self._questions and self._of_command is None:
            return "there is none"
        if self._options.where is FilterIn.USER:
            return "--filter-in user"
        if needed_here is not None:
            return needed_here
        return plan_kernel_filter(
            self._questions,
            by_parent=self._options.by_parent,
            of_command=self._of_command is not None,
        )

    def _check_cgroups(self) -> None:
        for question in self._options.questions:
            for path in question.alternatives if question.term.name == "cgroup" else ():
                if self._cgroups.directory(path) is None:
                    self._check_cgroup_namespace()
                    raise CliError(
                        f"there is no cgroup {visible(path)} in the cgroup v2 hierarchy; "
                        "give a path as /proc/PID/cgroup shows it after '0::'.",
                        ExitCode.NO,
                    )

    def _check_cgroup_namespace(self) -> None:
        there = self._cgroups.hierarchy
        if there is not None and there.is_foreign:
            raise CliError(
                f"{there.mount} shows the cgroups of another cgroup namespace; mount this "
                "one's with 'mount -t cgroup2 cgroup2 DIRECTORY', or give a path below there.",
                ExitCode.UNAVAILABLE,
            )

    def source_options(self, options: SourceOptions) -> SourceOptions:
        """Have the BPF source prepared for a filter, if the kernel is to decide it."""
        if isinstance(self._part, str):
            return options
        bpf = replace(options.bpf, kernel_filter_spec=self._part, filter_slots=self._slots)
        return replace(options, bpf=bpf)

    def attach(self, pipeline: Pipeline, tree: TreeStore, cache: CacheStore) -> None:
        """Give a pipeline the filter."""
        options = self._options
        follows = self._of_command
        if self._questions:
            wanted = Filter(
                self._questions, tree, cache, include_self=options.include_self,
                by_parent=options.by_parent, in_cgroup=self._cgroups,
            )  # fmt: skip
            pipeline.wanted = wanted
            if follows is None and not isinstance(self._part, str):
                follows = followed_by(wanted)
        pipeline.start_kernel_filter = lambda: self._controller_for(pipeline.source, follows)

    def _check_source(self, source: EventSource) -> None:
        asks_cgroup = any(q.term.name == "cgroup" for q in self._questions)
        if asks_cgroup and source.name not in ("bpf", "replay"):
            raise CliError(
                f"the source is {source.name}, and only bpf tells of cgroups; "
                "use --source bpf, or leave out --cgroup.",
                ExitCode.UNAVAILABLE,
            )

    def _controller_for(
        self, source: EventSource, follows: Callable[[TrackedProcess], bool] | None
    ) -> KernelFilterController | None:
        self._check_source(source)
        if isinstance(self._part, str) or follows is None:
            return None
        if isinstance(source, BpfSource) and source.kernel_filter is not None:
            return KernelFilterController(source.kernel_filter, follows, user_of)
        if isinstance(source, BpfSource) and source.filter_refusal is not None:
            self._part = f"with the filter, {source.filter_refusal.reason}"
            self._is_refused = True
        else:
            self._part = f"the source is {source.name}, and only bpf can filter in the kernel"
        if self._options.where is FilterIn.KERNEL:
            raise CliError(f"{self._part}; leave out --filter-in.", ExitCode.UNAVAILABLE)
        return None

    def say_where(self, summary: dict[str, Any]) -> None:
        """Say at the end where the filter was decided, if there was one."""
        kernel = summary["kernel_filter"]
        given_up = kernel["given_up"] if kernel else None
        if not self._questions and not given_up and not self._is_refused:
            return
        if kernel is None:
            say(f"filtered in user space ({self._part}): {summary['filtered']} events left out")
            return
        dropped = summary.get("dropped_in_kernel", 0)
        if given_up and not kernel["times_on"]:
            text = f"filtered in user space ({given_up}): {summary['filtered']} events left out"
        else:
            text = f"filtered in the kernel: {dropped} events left out there"
            if given_up:
                text += f", until {given_up} and it went on in user space"
        say(text)
