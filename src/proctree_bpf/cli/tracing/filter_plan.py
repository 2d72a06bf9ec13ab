"""The filter of a trace: the plan that all users share, with options that say where to filter."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.errors import CliError, ExitCode
from proctree_bpf.cli.messages import counted, say
from proctree_bpf.cli.tracing.filter_options import FilterIn
from proctree_bpf.errors import FilterError
from proctree_bpf.filter_plan import FilterPlan
from proctree_bpf.filters.terms import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proctree_bpf.cli.tracing.options import TraceOptions
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.filters.kernel_controller import KernelFilterController
    from proctree_bpf.filters.record_filter import BoundFilter
    from proctree_bpf.sources.base import EventSource


def _needs_every_event(options: TraceOptions) -> bool:
    """Tell whether the kernel must not leave anything out."""
    return options.collection.record is not None


@contextmanager
def _as_cli_error() -> Iterator[None]:
    try:
        yield
    except FilterError as error:
        code = ExitCode.UNAVAILABLE if error.is_unsupported else ExitCode.NO
        raise CliError(f"{error}.", code) from error


class TraceFilterPlan(FilterPlan):
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
        asked = options.filters
        self._filter_in = asked.filter_in
        with _as_cli_error():
            super().__init__(
                Filter(asked.questions, asked.include_self, asked.by_parent),
                options.collection.capacity,
                why_not_in_kernel=_why_not_in_kernel(options),
                of_command=of_command,
                is_of_here=not options.collection.is_replay,  # else others may be meant
            )
        if self._filter_in is FilterIn.KERNEL and self.kernel.spec is None:
            raise CliError(
                f"--filter-in kernel is impossible: {self.kernel.reason}; leave it out.",
                ExitCode.USAGE,
            )

    def check_source(self, source: EventSource) -> None:
        """Refuse a source that does not report what the filter asks for.

        Raises:
            CliError: so it is.

        """
        with _as_cli_error():
            super().check_source(source)

    def start_kernel_filter(
        self, source: EventSource, wanted: BoundFilter | None
    ) -> KernelFilterController | None:
        """Return what keeps a filter in the kernel in step with the one here, if it decides.

        Raises:
            CliError: the kernel was to decide, and this source cannot filter there.

        """
        controller = super().start_kernel_filter(source, wanted)
        if controller is None and self._filter_in is FilterIn.KERNEL:
            raise CliError(
                f"{self.kernel.reason}; leave out --filter-in kernel.", ExitCode.UNAVAILABLE
            )
        return controller

    def say_where(self, summary: dict[str, Any]) -> None:
        """Say at the end where the filter was decided, if there was one."""
        kernel = summary["kernel_filter"]
        given_up = kernel["given_up"] if kernel else None
        if not self.questions and not given_up and not self.was_refused:
            return
        in_user_space = f"{counted(summary['filtered'], 'event')} left out in user space"
        if kernel is None:
            say(f"{in_user_space}, because {self.kernel.reason}")
        elif given_up and not kernel["times_on"]:
            say(f"{in_user_space}, because the filter in the kernel gave up: {given_up}")
        else:
            dropped = counted(summary.get("dropped_in_kernel", 0), "event")
            until = f", until it gave up ({given_up}); from then on, in user space"
            say(f"{dropped} left out by the filter in the kernel{until if given_up else ''}")


def _why_not_in_kernel(options: TraceOptions) -> str | None:
    if options.filters.filter_in is FilterIn.USER:
        return "--filter-in user was given"
    return "a recording needs every event" if _needs_every_event(options) else None
