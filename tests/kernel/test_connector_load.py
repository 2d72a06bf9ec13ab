"""The proc connector under load: all is told once, and no name is wrong."""

from __future__ import annotations

import select
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

import proctree_bpf
from proctree_bpf import Exec, Exit, Fork, ProcessKey
from proctree_bpf.sources.proc_connector import ProcConnectorSource
from support.live_collector import as_identity
from support.proc_truth import identity
from support.source_session import Session
from support.spawner import NAMES, Spawner

if TYPE_CHECKING:
    from pathlib import Path

    from support.actor import Helpers
    from support.proc_truth import Identity
    from support.spawner import Spawned

_COUNT = 20_000


class Load(NamedTuple):
    """Processes that lived for a moment, and what was told of them."""

    session: Session
    spawners: dict[Identity, Spawner]
    truth: list[Spawned]


def run_load(source: ProcConnectorSource, helpers: Helpers, directory: Path, count: int) -> Load:
    """Spawn ``count`` processes on two CPUs, pumping meanwhile."""
    with Session(source) as session:
        session.settle()
        half = count // 2
        spawners = [Spawner(helpers, directory, "load", half, first=n * half) for n in range(2)]
        who = {identity(spawner.pid): spawner for spawner in spawners}
        descriptor = session.source.fileno()
        assert descriptor is not None
        while any(spawner.popen.poll() is None for spawner in spawners):
            session.pipeline.pump()
            select.select([descriptor], [], [], 0.01)
        truth = [one for spawner in spawners for one in spawner.finish()]
    return Load(session, who, truth)


@pytest.fixture(scope="module")
def load(helpers: Helpers, tmp_path_factory: pytest.TempPathFactory, figures: list[str]) -> Load:
    load = run_load(ProcConnectorSource(), helpers, tmp_path_factory.mktemp("load"), _COUNT)
    named = sum(1 for process_event in ours(load, Exec) if not process_event.info.inherited)
    known = Counter((one.pid, one.name) for one in load.truth)
    right = sum(known[a.node.pid, a.info.cmd] > 0 for a in ours(load, Exit))
    figures.append(
        f"proc-connector: of {_COUNT} fast processes {named} named by their exec, "
        f"{right} in the end"
    )
    return load


def ours(load: Load, kind: type) -> list[proctree_bpf.ProcessEvent]:
    """Return the records of one kind about what the spawners ran."""
    return [
        process_event
        for process_event in load.session.applied
        if isinstance(process_event.event, kind)
        and as_identity(process_event.node.creator) in load.spawners
    ]


class TestLoad:
    def test_nothing_is_lost(self, load: Load) -> None:
        stats = load.session.source.stats()
        assert (stats["lost"], stats["overruns"], stats["undecodable"]) == (0, 0, 0)
        assert load.session.gaps == []

    @pytest.mark.parametrize("kind", [Fork, Exec, Exit])
    def test_every_process_is_told_of_once(self, load: Load, kind: type) -> None:
        keys = self.keys(load)
        told = Counter(
            event.key.pid
            for event in load.session.delivered
            if isinstance(event, kind) and event.key in keys
        )
        wanted = Counter(one.pid for one in load.truth)
        assert told == wanted

    def keys(self, load: Load) -> set[ProcessKey]:
        """Return the keys that the forks of the spawners gave."""
        return {
            event.child
            for event in load.session.delivered
            if isinstance(event, Fork) and as_identity(event.creator) in load.spawners
        }

    def test_a_name_that_was_read_is_right(self, load: Load) -> None:
        names: dict[int, set[str]] = {}
        args: dict[int, set[tuple[str, ...]]] = {}
        for spawner in load.spawners.values():
            for one in load.truth:
                if one.parent_pid == spawner.pid:
                    names.setdefault(one.pid, set()).add(one.name)
                    # A dead process has a name but no arguments.
                    args.setdefault(one.pid, {()}).add(spawner.args_of(one))
        read = [
            process_event
            for kind in (Exec, Exit)
            for process_event in ours(load, kind)
            if not process_event.info.inherited
        ]
        wrong = [
            process_event
            for process_event in read
            if process_event.info.cmd not in names[process_event.node.pid]
            or process_event.info.args not in args[process_event.node.pid]
        ]
        # How many were read depends on the load, and may be none: see docs/benchmarks.md.
        assert wrong == []

    def test_a_name_that_was_not_read_is_the_creators_or_that_of_the_dead(self, load: Load) -> None:
        right = {one.name for one in load.truth}
        for kind in (Fork, Exec, Exit):
            for process_event in ours(load, kind):
                if process_event.info.inherited:
                    dead = right if kind is Exit else set()
                    assert process_event.info.cmd in {"spawner"} | dead

    def test_the_status_and_the_creator_are_right(self, load: Load) -> None:
        told = Counter((a.node.pid, a.info.status, a.node.ppid) for a in ours(load, Exit))
        assert told == Counter((one.pid, one.status, one.parent_pid) for one in load.truth)

    def test_no_event_comes_late(self, load: Load) -> None:
        assert load.session.pipeline.summary()["late"] == 0

    def test_names_alternate_so_that_a_mistake_would_show(self, load: Load) -> None:
        assert len({one.name for one in load.truth}) == NAMES
