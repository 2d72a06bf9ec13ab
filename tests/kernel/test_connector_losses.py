"""What the proc connector loses is counted, told, repaired, and replayed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec, Exit, Rename
from proctree_bpf.codecs.cn_proc import (
    NetlinkMessageIter,
    Overrun,
    WouldBlock,
)
from proctree_bpf.sources.proc_connector import _MOST_DATAGRAMS, ProcConnectorSource
from proctree_bpf.sources.recorder import Recorder
from proctree_bpf.sources.system.connector_socket import ProcConnector
from support import connector_messages as wire
from support.real_connector import (
    HUGE_BUFFER,
    monotonic_ns,
    read_all,
    touch_every_cpu,
    write_own_name,
)
from support.source_session import Session, replayed
from support.spawner import Spawner
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.actor import Helpers

_SMALL_BUFFER = 32 * 1024


class Witness:
    """Another subscription with a buffer that never fills: all that the kernel sent."""

    def __init__(self) -> None:
        self._connector = ProcConnector(receive_buffer=HUGE_BUFFER)
        self._connector.set_nonblocking()
        self.sent: list[tuple[int, int, int]] = []

    def collect(self) -> list[tuple[int, int, int]]:
        """Return (CPU, number, time) of each message so far."""
        with suppress(WouldBlock):
            while True:
                for message in NetlinkMessageIter(self._connector.recv_datagram()):
                    if message is not None:
                        self.sent.append((message.cpu, message.seq, message.timestamp_ns))
        return self.sent

    def close(self) -> None:
        self.collect()
        self._connector.close()


@pytest.fixture
def witness() -> Iterator[Witness]:
    witness = Witness()
    yield witness
    witness.close()


class TestLosses:
    def test_what_is_said_to_be_lost_is_what_was_sent_and_not_received(
        self, witness: Witness, helpers: Helpers, tmp_path: Path
    ) -> None:
        source = ProcConnectorSource(receive_buffer=_SMALL_BUFFER)
        with Session(source) as session:
            touch_every_cpu()  # the first numbers, while there is room for them
            beginning_ns = monotonic_ns()
            session.pipeline.pump()
            begun_ns = monotonic_ns()
            received_before = session.source.stats()["received"]
            lost_before = session.source.stats()["lost"]
            spawners = [
                Spawner(helpers, tmp_path, "tiny", 500, first=n * 500, cpu=cpu)
                for n, cpu in enumerate(sorted(os.sched_getaffinity(0)))
            ]
            while any(spawner.popen.poll() is None for spawner in spawners):
                session.pipeline.pump()
                time.sleep(0.002)
            for spawner in spawners:
                spawner.finish()
            stopping_ns = monotonic_ns()
            session.finish()
            stopped_ns = monotonic_ns()
        stats = session.source.stats()
        received = stats["received"] - received_before
        lost = stats["lost"] - lost_before
        times = [time_ns for _, _, time_ns in witness.collect()]
        certain = sum(begun_ns < time_ns < stopping_ns for time_ns in times)
        possible = sum(beginning_ns < time_ns < stopped_ns for time_ns in times)
        assert lost > 100, "the buffer was not tiny enough"
        assert certain <= received + lost <= possible
        assert lost == sum(gap.count or 0 for gap in session.gaps) - lost_before

    def test_what_is_lost_at_the_very_end_is_told_too(
        self, witness: Witness, helpers: Helpers, tmp_path: Path
    ) -> None:
        """Nothing is read between the flood and the stop."""
        source = ProcConnectorSource(receive_buffer=_SMALL_BUFFER)
        with Session(source) as session:
            touch_every_cpu()
            session.pipeline.pump()
            begun_ns = monotonic_ns()
            before = session.source.stats()
            Spawner(helpers, tmp_path, "end", 500).finish()
            stopping_ns = monotonic_ns()
            session.finish()
        stats = session.source.stats()
        told = stats["received"] + stats["lost"] - before["received"] - before["lost"]
        sent = sum(begun_ns < t < stopping_ns for _, _, t in witness.collect())
        assert stats["received"] - before["received"] < sent, "the buffer was not tiny enough"
        assert told >= sent

    def test_what_is_lost_before_a_cpu_was_ever_heard_of_is_told_too(
        self, witness: Witness, helpers: Helpers, tmp_path: Path
    ) -> None:
        """The flood begins on one CPU as soon as the source is open, and fills the buffer."""
        source = ProcConnectorSource(receive_buffer=_SMALL_BUFFER)
        cpus = sorted(os.sched_getaffinity(0))
        with Session(source) as session:
            begun_ns = monotonic_ns()
            before = session.source.stats()
            for cpu in cpus:
                Spawner(helpers, tmp_path, f"first-{cpu}", 300, cpu=cpu).finish()
            session.settle()
            touch_every_cpu()
            session.settle()
            stopping_ns = monotonic_ns()
            session.finish()
        stats = session.source.stats()
        told = stats["received"] + stats["lost"] - before["received"] - before["lost"]
        sent = sum(begun_ns < t < stopping_ns for _, _, t in witness.collect())
        assert stats["lost"] > 0
        assert told >= sent

    def test_a_loss_makes_the_tree_uncertain_until_proc_was_read_again(
        self, helpers: Helpers, tmp_path: Path
    ) -> None:
        with Session(ProcConnectorSource(receive_buffer=_SMALL_BUFFER)) as session:
            Spawner(helpers, tmp_path, "uncertain", 500).finish()
            session.settle_until("it is noticed", lambda: session.gaps)
            session.settle_until("the repair", lambda: not session.tracker.uncertain)
            repairs = session.pipeline.stats.repairs
        assert repairs > 0

    def test_a_recording_with_losses_and_repairs_replays_to_its_end(
        self, helpers: Helpers, tmp_path: Path
    ) -> None:

        path = tmp_path / "recording"
        recorder = Recorder(path.open("wb"))
        source = ProcConnectorSource(receive_buffer=_SMALL_BUFFER, recorder=recorder)
        with Session(source) as session:
            until = time.monotonic() + 3
            number = 0
            while time.monotonic() < until:
                spawner = Spawner(helpers, tmp_path, f"burst-{number}", 150)
                number += 1
                spawner.finish()
                session.settle()
        recorder.finish()
        assert session.pipeline.stats.repairs > 1
        again = replayed(path)
        assert [gap.count for gap in again.gaps] == [gap.count for gap in session.gaps]
        assert again.pipeline.stats.repairs == session.pipeline.stats.repairs
        assert again.records() == session.records()

    def test_the_buffer_that_was_asked_for_is_had(self) -> None:
        with ProcConnector(receive_buffer=1 << 24) as connector:
            assert connector.receive_buffer() == 2 << 24  # the kernel doubles it, socket(7)

    def test_a_full_buffer_is_an_overrun_and_then_the_next_message(
        self, helpers: Helpers, tmp_path: Path
    ) -> None:
        with ProcConnector(receive_buffer=_SMALL_BUFFER) as connector:
            connector.set_nonblocking()
            Spawner(helpers, tmp_path, "overrun", 300).finish()
            with pytest.raises(Overrun):
                read_all(connector)
            write_own_name()
            assert connector.recv_timeout(1) is not None


def test_a_source_with_more_waiting_than_one_poll_takes_can_be_stopped(
    helpers: Helpers, tmp_path: Path
) -> None:
    source = ProcConnectorSource()
    session = Session(source)
    with session:
        # A fork, an exec and an exit of each.
        count = _MOST_DATAGRAMS // 3 + 100
        Spawner(helpers, tmp_path, "many", count).finish()
        stopper = threading.Thread(target=source.stop, daemon=True)
        stopper.start()
        stopper.join(5)
        stuck = stopper.is_alive()
        if stuck:
            source._connector = None  # let it go
            stopper.join(PATIENCE_S)
    assert not stuck, "stop() does not return"
    assert session.source.stats()["lost"] == 0
    assert sum(isinstance(a.event, Exit) for a in session.applied) >= count


_OPEN_OFTEN = """\
from proctree_bpf.sources.proc_connector import ProcConnectorSource
for _ in range(30):
    source = ProcConnectorSource()
    source.open()
    gaps = [gap for _ in range(3) for gap in source.poll().gaps]
    source.close()
    print(len(gaps), gaps)
"""


def test_nothing_is_lost_while_a_source_opens(helpers: Helpers, tmp_path: Path) -> None:
    """Others are at work on every CPU while it makes sure that messages come.

    It runs by itself: here it would share the interpreter with the collector of all tests,
    which must keep up with what the others do. They do no more than its buffers hold.
    """
    cpus = sorted(os.sched_getaffinity(0))
    busy = [Spawner(helpers, tmp_path, "busy", 15_000, first=n, cpu=c) for n, c in enumerate(cpus)]
    try:
        opened = subprocess.run(
            [sys.executable, "-c", _OPEN_OFTEN],
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S * 3,
            check=True,
        )
    finally:
        for spawner in busy:
            spawner.stop()
    assert opened.stdout.splitlines() == ["0 []"] * 30


class _Scripted(ProcConnector):
    """A connector that delivers what it is given, all at once."""

    def __init__(self, *datagrams: bytes) -> None:
        self._left = list(datagrams)

    def recv_datagram(self) -> bytes:
        if not self._left:
            raise WouldBlock("that was all")
        return self._left.pop(0)

    def fileno(self) -> int:
        return 0


def test_what_comes_behind_the_sources_own_first_message_is_kept() -> None:
    kernel = wire.Kernel()
    before, own = kernel.exec(1), kernel.comm(os.getpid(), b"own")
    source = ProcConnectorSource()
    source._connector = _Scripted(before, own, kernel.exec(1), kernel.exec(1))
    assert source._prove()
    events = source.poll().events
    assert [type(event) for event in events] == [Exec, Rename, Exec, Exec]
