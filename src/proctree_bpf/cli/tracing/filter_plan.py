"""Where a trace's filter is decided: in the kernel when it can be, and here."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.errors import CliError, ExitCode
from proctree_bpf.cli.messages import counted, say
from proctree_bpf.cli.tracing.filter_options import FilterIn
from proctree_bpf.core.text import visible
from proctree_bpf.filters.kernel_controller import KernelFilterController, followed_by
from proctree_bpf.filters.kernel_plan import KernelPlan, is_glob, plan_kernel_filter
from proctree_bpf.filters.record_filter import Filter
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.system.cgroups import CgroupPaths, hierarchy
from proctree_bpf.sources.system.procfs import uid_of_user, user_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.cli.tracing.options import TraceOptions
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.filters.terms import Question
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
                f"there is no user {visible(name)} here; give the name or the uid of a user.",
                ExitCode.NO,
            )
    return replace(question, alternatives=(*question.alternatives, *map(str, ids.values())))


def _needs_every_event(options: TraceOptions) -> bool:
    """Tell whether the kernel must not leave anything out."""
    return options.collection.record is not None


class FilterPlan:
    """Makes the filter of a trace, and says where it was decided.

    Args:
        options: what is wanted.
        of_command: if only a command's processes are shown, tells who is one of them.

    Raises:
        CliError: the filter was to be decided in the kernel, which cannot; or it names a
            cgroup or a user that is not there.

    """

    def __init__(
        self, options: TraceOptions, of_command: Callable[[TrackedProcess], bool] | None
    ) -> None:
        self._options = options.filters
        self._questions = [_with_real_path(question) for question in self._options.questions]
        if not options.collection.is_replay:  # else other users may be meant than those here
            self._questions = [_with_user_ids(question) for question in self._questions]
        self._is_refused = False
        self._slots = min(options.collection.capacity, _MOST_SLOTS)
        self._of_command = of_command
        self._cgroups = CgroupPaths(hierarchy())
        self._kernel = self._plan_kernel(options)
        if self._options.filter_in is FilterIn.KERNEL and self._kernel.spec is None:
            raise CliError(
                f"--filter-in kernel is impossible: {self._kernel.reason}; leave it out.",
                ExitCode.USAGE,
            )
        self._check_cgroups()

    def _plan_kernel(self, options: TraceOptions) -> KernelPlan:
        if not self._questions and self._of_command is None:
            return KernelPlan(None, "there is no filter")
        if self._options.filter_in is FilterIn.USER:
            return KernelPlan(None, "--filter-in user was given")
        if _needs_every_event(options):
            return KernelPlan(None, "a recording needs every event")
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
        if self._kernel.spec is None:
            return options
        bpf = replace(options.bpf, kernel_filter_spec=self._kernel.spec, filter_slots=self._slots)
        return replace(options, bpf=bpf)

    def filter_for(self, tree: TreeStore, cache: CacheStore) -> Filter | None:
        """Return the filter over a tree; None if all is wanted."""
        if not self._questions:
            return None
        return Filter(
            self._questions, tree, cache, include_self=self._options.include_self,
            by_parent=self._options.by_parent, in_cgroup=self._cgroups,
        )  # fmt: skip

    def check_source(self, source: EventSource) -> None:
        """Refuse a source that does not report what the filter asks for.

        Raises:
            CliError: so it is.

        """
        asks_cgroup = any(q.term.name == "cgroup" for q in self._questions)
        if asks_cgroup and source.name not in ("bpf", "replay"):
            raise CliError(
                f"the source is {source.name}, and only bpf reports cgroups; "
                "use --source bpf, or leave out --cgroup.",
                ExitCode.UNAVAILABLE,
            )

    def start_kernel_filter(
        self, source: EventSource, wanted: Filter | None
    ) -> KernelFilterController | None:
        """Return what keeps a filter in the kernel in step with the one here, if it decides.

        Raises:
            CliError: the kernel was to decide, and this source cannot filter there.

        """
        follows = self._of_command or (followed_by(wanted) if wanted is not None else None)
        if self._kernel.spec is None or follows is None:
            return None
        if isinstance(source, BpfSource) and source.kernel_filter is not None:
            return KernelFilterController(source.kernel_filter, follows, user_of)
        if isinstance(source, BpfSource) and source.filter_refusal is not None:
            reason = f"with a filter in the kernel, {source.filter_refusal.reason}"
            self._is_refused = True
        else:
            reason = f"the source is {source.name}, and only bpf can filter in the kernel"
        if self._options.filter_in is FilterIn.KERNEL:
            raise CliError(f"{reason}; leave out --filter-in kernel.", ExitCode.UNAVAILABLE)
        self._kernel = KernelPlan(None, reason)
        return None

    def say_where(self, summary: dict[str, Any]) -> None:
        """Say at the end where the filter was decided, if there was one."""
        kernel = summary["kernel_filter"]
        given_up = kernel["given_up"] if kernel else None
        if not self._questions and not given_up and not self._is_refused:
            return
        in_user_space = f"{counted(summary['filtered'], 'event')} left out in user space"
        if kernel is None:
            say(f"{in_user_space}, because {self._kernel.reason}")
        elif given_up and not kernel["times_on"]:
            say(f"{in_user_space}, because the filter in the kernel gave up: {given_up}")
        else:
            dropped = counted(summary.get("dropped_in_kernel", 0), "event")
            until = f", until it gave up ({given_up}); from then on, in user space"
            say(f"{dropped} left out by the filter in the kernel{until if given_up else ''}")
