"""The options of ``trace`` that choose where records come from and where they go."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, nan
from pathlib import Path
from typing import Annotated, Any

import typer

from proctree_bpf.cli.run.command import CommandOptions, Wait
from proctree_bpf.cli.tracing.display_options import MAX_COUNT, DisplayOptions, Format, number
from proctree_bpf.cli.tracing.filter_options import FilterOptions
from proctree_bpf.core.model import MAX_TTL_SECS, PID_TREE_CAP, PID_TREE_TTL_SECS, CacheParams
from proctree_bpf.sources.bpf import (
    DEFAULT_ARGS_BYTES,
    DEFAULT_PERF_PAGES,
    MAX_PERF_PAGES,
    BpfOptions,
)
from proctree_bpf.sources.choose import AUTO, LIVE, REPLAY_PREFIX, SourceOptions, is_source
from proctree_bpf.sources.proc_connector import DEFAULT_RECEIVE_BUFFER
from proctree_bpf.sources.system.clock import wall_offset_ns
from proctree_bpf.sources.system.procfs import MAX_ARGS_BYTES

_MAX_SECONDS = 1_000_000_000  # thirty years


def _file(text: str, *names: str) -> Any:
    return typer.Option(*names, metavar="FILE", help=text, readable=False)


def _check_source(text: str) -> str:
    if not is_source(text):
        raise typer.BadParameter(f"choose from {', '.join((AUTO, *LIVE))}, replay:FILE")
    return text


def _parse_duration(text: str) -> float:
    if text.lower() == "inf":
        return inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if not 0 <= seconds <= _MAX_SECONDS:
        raise typer.BadParameter(f"must be from 0 to {_MAX_SECONDS}, or inf")
    return seconds


def _parse_pages(pages: int) -> int:
    if pages < 1 or pages & (pages - 1):
        raise typer.BadParameter("must be a power of two")
    return pages


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where records and statistics go, in which format, and for how many seconds."""

    format: Annotated[
        Format,
        typer.Option(
            "--format", "-f",
            help="A table, a tree, JSON lines (Elastic Common Schema), or chain strings.",
        ),
    ] = Format.TABLE  # fmt: skip
    output: Annotated[
        Path | None, _file("Write the records to FILE; - is stdout.", "--output", "-o")
    ] = None
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", "-d", metavar="SECONDS", parser=_parse_duration,
            help="Stop after SECONDS; inf means never.",
        ),
    ] = None  # fmt: skip
    stats_file: Annotated[
        Path | None, _file("At the end, write statistics to FILE, as JSON.", "--stats-file")
    ] = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a COMMAND is run, and when its trace ends."""

    wait: Annotated[
        Wait,
        typer.Option(
            help="End the trace with the last descendant of COMMAND (all), or with COMMAND itself."
        ),
    ] = Wait.ALL
    as_user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Run COMMAND as user NAME, not as the user who called sudo."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class CollectionOptions:
    """Which source to use, how it collects, and how much the tree remembers."""

    source: Annotated[
        str,
        typer.Option(
            metavar="SOURCE", callback=_check_source,
            help="Where events come from: auto, bpf, proc-connector, proc-walker, or "
            "replay:FILE for a file that --record wrote.",
        ),
    ] = AUTO  # fmt: skip
    record: Annotated[
        Path | None, _file("Write all that the source reads to FILE, for --source replay:FILE.")
    ] = None
    exclude_self: Annotated[
        bool, typer.Option(help="Whether to leave out proctree-bpf's own processes.")
    ] = True
    interval: Annotated[
        int, number("MS", 1, 1000, "Milliseconds between two reads of the kernel's buffers.")
    ] = 20
    max_args_bytes: Annotated[
        int, number("BYTES", 1, MAX_ARGS_BYTES, "How much of a command's arguments BPF copies.")
    ] = DEFAULT_ARGS_BYTES
    perf_pages: Annotated[
        int,
        number(
            "PAGES",
            1,
            MAX_PERF_PAGES,
            "Pages in each CPU's BPF buffer: a power of two.",
            callback=_parse_pages,
        ),
    ] = DEFAULT_PERF_PAGES
    program_cache: Annotated[
        bool,
        typer.Option(
            help="Whether to keep compiled BPF programs in /var/cache, for a faster start."
        ),
    ] = True
    receive_buffer: Annotated[
        int, number("BYTES", 1, 2**31 - 1, "Size of the proc connector's receive buffer.")
    ] = DEFAULT_RECEIVE_BUFFER
    walk_interval: Annotated[
        int, number("MS", 10, 60_000, "Milliseconds between two walks of /proc by the proc-walker.")
    ] = 100
    capacity: Annotated[
        int, number("N", 1, MAX_COUNT, "How many processes are remembered, living and ended.")
    ] = PID_TREE_CAP
    ttl: Annotated[
        float, number("SECONDS", 0, MAX_TTL_SECS, "How long an ended process is remembered.")
    ] = PID_TREE_TTL_SECS

    @property
    def source_options(self) -> SourceOptions:
        """What the sources are told."""
        bpf = BpfOptions(self.max_args_bytes, self.perf_pages)
        if not self.program_cache:
            bpf = replace(bpf, program_cache=None)
        return SourceOptions(self.source, bpf, self.receive_buffer, self.walk_interval / 1000)

    @property
    def cache_params(self) -> CacheParams:
        """The bounds of the tree."""
        return CacheParams(self.capacity, self.ttl)

    @property
    def interval_s(self) -> float:
        """Seconds between two reads of the kernel's buffers."""
        return self.interval / 1000

    @property
    def is_replay(self) -> bool:
        """Whether events come from a recording, not from this machine."""
        return self.source.startswith(REPLAY_PREFIX)


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What the user asked for; ``command`` is None if the whole machine is traced."""

    output: OutputOptions
    display: DisplayOptions
    collection: CollectionOptions
    filters: FilterOptions
    command: CommandOptions | None
    debug: bool
    wall_offset_ns: int = field(default_factory=wall_offset_ns)
