"""The proc connector's socket, and the names that programs look for."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import proctree_bpf
from proctree_bpf import PidTree, ProcCache, compat
from proctree_bpf.codecs.cn_proc import (
    CnProcEvent,
    ConnectionClosed,
    What,
    WouldBlock,
)
from proctree_bpf.sources.proc_connector import ProcConnectorSource
from proctree_bpf.sources.system.connector_socket import ProcConnector
from support import connector_messages as wire
from support.live_collector import as_identity
from support.proc_truth import identity
from support.real_connector import (
    HUGE_BUFFER,
    monotonic_ns,
    read_all,
    read_all_but_losses,
    touch_every_cpu,
    write_own_name,
)
from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.actor import Stage


class TestSocket:
    @pytest.fixture
    def connector(self) -> Iterator[ProcConnector]:
        with ProcConnector(receive_buffer=HUGE_BUFFER) as connector:
            yield connector

    def own(self, connector: ProcConnector) -> CnProcEvent:
        """Return the next message about a name of this process."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            event = connector.recv_timeout(deadline - time.monotonic())
            if event is not None and (event.what, event.tgid) == (What.COMM, os.getpid()):
                return event
        raise AssertionError("nothing came")

    def test_a_message_has_all_its_parts(self, connector: ProcConnector) -> None:
        before_ns = monotonic_ns()
        write_own_name()
        event = self.own(connector)
        assert event.what is What.COMM
        assert event.comm == Path("/proc/self/comm").read_bytes()[:-1]
        assert before_ns <= event.timestamp_ns <= monotonic_ns()
        assert event.cpu in range(os.cpu_count() or 1)

    @pytest.mark.parametrize("to_all", [False, True], ids=["to us", "to all listeners"])
    def test_what_another_process_sends_is_not_taken_for_the_kernels(
        self, connector: ProcConnector, *, to_all: bool
    ) -> None:
        """With CAP_NET_ADMIN, anybody can; as a container may have it with the host's network."""
        message = wire.event(wire.COMM, wire.comm_body(os.getpid(), b"prt-forged"))
        with socket.socket(fileno=os.dup(connector.fileno())) as ours:
            port = ours.getsockname()[0]
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11) as forger:
            forger.bind((0, 0))
            forger.sendto(message, (0, 1) if to_all else (port, 0))
        write_own_name()
        assert self.own(connector).comm != b"prt-forged"

    def test_numbers_of_a_cpu_have_no_holes(self, connector: ProcConnector) -> None:
        for _ in range(20):
            touch_every_cpu()
        numbers: dict[int, list[int]] = {}
        while (event := connector.recv_timeout(0.05)) is not None:
            numbers.setdefault(event.cpu, []).append(event.seq)
            if sum(map(len, numbers.values())) > 5000:
                break
        assert len(numbers) == len(os.sched_getaffinity(0))
        for seqs in numbers.values():
            assert all((b - a) & 0xFFFFFFFF == 1 for a, b in pairwise(seqs))

    def test_the_next_message_is_waited_for(self, connector: ProcConnector) -> None:
        timer = threading.Timer(0.05, write_own_name)
        timer.start()
        assert self.own(connector).what is What.COMM
        timer.join()

    def test_waiting_ends_at_the_deadline(self) -> None:
        with ProcConnector([What.COREDUMP], HUGE_BUFFER) as connector:
            connector.recv_timeout(0.0)
            begun = time.monotonic()
            while connector.recv_timeout(0.1) is not None:
                begun = time.monotonic()
            assert 0.09 < time.monotonic() - begun < 5

    def test_no_time_to_wait_is_a_look(self) -> None:
        with ProcConnector([What.COREDUMP], HUGE_BUFFER) as connector:
            begun = time.monotonic()
            connector.recv_timeout(0)
            assert time.monotonic() - begun < 1

    def test_without_blocking_nothing_there_is_said_so(self, connector: ProcConnector) -> None:
        connector.set_nonblocking()
        with pytest.raises(WouldBlock):
            read_all(connector)

    def test_a_closed_connector_says_so(self) -> None:
        connector = ProcConnector()
        connector.close()
        connector.close()
        with pytest.raises(ConnectionClosed):
            connector.recv()
        with pytest.raises(ConnectionClosed):
            connector.recv_timeout(1)
        with pytest.raises(ConnectionClosed):
            connector.recv_datagram()

    def test_the_descriptor_may_be_any_number(self) -> None:
        """select(2) cannot wait for descriptors from 1024 on."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
        try:
            with ProcConnector(receive_buffer=HUGE_BUFFER) as connector:
                assert connector.fileno() >= 1024
                write_own_name()
                assert connector.recv_timeout(1) is not None
        finally:
            for fd in spare:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @pytest.mark.parametrize(
        "wanted", [{What.EXIT}, {What.FORK, What.EXIT}, {What.COMM}, {What.EXEC}], ids=str
    )
    def test_only_the_kinds_that_were_asked_for_come(self, stage: Stage, wanted: set[What]) -> None:
        with ProcConnector(wanted, HUGE_BUFFER) as connector:
            child = stage.played("spawn", stage.helpers.quit, "0").await_report("child")
            renamer = stage.play("rename", "filtered")
            with renamer:
                renamed = renamer.await_report("renamed")
            seen: dict[int, set[What | int]] = {child.pid: set(), renamed.pid: set()}

            def all_came() -> bool:
                event = connector.recv_timeout(0.1)
                if event is not None:
                    # Everybody gets everybody's acknowledgements.
                    assert event.what in wanted | {What.NONE}
                    seen.setdefault(event.tgid, set()).add(event.what)
                is_renamed = What.COMM in wanted and What.COMM not in seen[renamed.pid]
                return seen[child.pid] == wanted - {What.COMM} and not is_renamed

            wait_until("all that was asked for comes", all_came)

    def test_without_a_choice_every_kind_comes(
        self, connector: ProcConnector, stage: Stage
    ) -> None:
        child = stage.played("spawn", stage.helpers.quit, "0").await_report("child")
        seen: set[What | int] = set()
        while {What.FORK, What.EXEC, What.EXIT} - seen:
            event = connector.recv_timeout(PATIENCE_S)
            assert event is not None
            if event.tgid == child.pid:
                seen.add(event.what)

    def test_one_that_unsubscribes_does_not_silence_another(self, connector: ProcConnector) -> None:
        """Kernels before 6.6 count subscriptions: one end too many ends them all."""
        other = ProcConnector()
        other.unsubscribe()
        other.unsubscribe()
        other.close()
        write_own_name()
        assert self.own(connector).what is What.COMM

    @pytest.mark.parametrize(
        "calls",
        ["c.unsubscribe(); c.close()", "c.close(); c.close()", "c.unsubscribe(); c.unsubscribe()"],
    )
    def test_the_end_of_a_subscription_is_sent_once(self, tmp_path: Path, calls: str) -> None:
        trace = tmp_path / "trace"
        script = f"from proctree_bpf import ProcConnector\nc = ProcConnector()\n{calls}\n"
        strace = ["strace", "-f", "-e", "trace=sendto", "-xx", "-s", "200", "-o", os.fspath(trace)]
        subprocess.run([*strace, sys.executable, "-c", script], check=True)
        messages = [
            bytes.fromhex(line.split('"')[1].replace("\\x", ""))
            for line in trace.read_text().splitlines()
            if "sendto(" in line
        ]
        operations = [struct.unpack_from("=I", message, 20)[0] for message in messages]
        assert operations == [1, 2]

    def wait_for_ever(self, connector: ProcConnector) -> None:
        while True:
            connector.recv_timeout(PATIENCE_S)

    def test_a_handler_that_raises_ends_the_wait(self, connector: ProcConnector) -> None:
        class _Alarm(Exception):  # noqa: N818
            pass

        def on_alarm(_number: int, _frame: object) -> None:
            raise _Alarm

        before = signal.signal(signal.SIGALRM, on_alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(_Alarm):
                self.wait_for_ever(connector)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def test_the_socket_is_not_inherited(self, connector: ProcConnector) -> None:
        assert not os.get_inheritable(connector.fileno())


class TestOwnName:
    """The source writes its thread's name to itself to make the kernel send something."""

    def opened_as(self, name: bytes) -> bytes:
        """Open and stop a source in a thread of this name; return the name afterwards."""
        found: list[bytes] = []

        def body() -> None:
            write_own_name(name or b"\0")
            source = ProcConnectorSource()
            try:
                source.open()
                source.poll()
                source.stop()
            finally:
                source.close()
                found.append(Path("/proc/thread-self/comm").read_bytes()[:-1])

        errors: list[BaseException] = []

        def guarded() -> None:
            try:
                body()
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        thread.join(PATIENCE_S)
        if errors:
            raise errors[0]
        return found[0]

    @pytest.mark.parametrize("name", [b"plain", b"ends in lines\n\n", b" spaces ", b""], ids=repr)
    def test_it_stays_what_it_was(self, name: bytes) -> None:
        assert self.opened_as(name) == name


class TestPublicNames:
    """What programs that were written for the proc-connector crate look for."""

    @pytest.mark.parametrize(
        "name",
        [
            "try_create_connector", "handle_proc_events", "start_proc_listener", "ProcConnector",
            "NetlinkMessageIter", "Overrun", "Truncated", "Interrupted", "WouldBlock",
            "BufferTooSmall", "ConnectionClosed", "UnexpectedConnector",
        ],
    )  # fmt: skip
    def test_each_is_in_the_package(self, name: str) -> None:
        assert hasattr(proctree_bpf, name)
        assert name in compat.__all__

    def test_a_connector_is_had_and_does_not_block(self) -> None:
        connector = proctree_bpf.try_create_connector()
        assert connector is not None
        with connector, pytest.raises(WouldBlock):
            read_all_but_losses(connector)

    def test_where_there_is_none_nothing_is_raised(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with monkeypatch.context():
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                connector = proctree_bpf.try_create_connector()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert connector is None
        assert "proc connector" in caplog.text

    def test_proc_events_fill_a_tree_and_a_cache(self, stage: Stage) -> None:
        tree, cache = PidTree(), ProcCache()
        with (
            ProcConnector(receive_buffer=HUGE_BUFFER) as connector,
            stage.hold("a name", "an argument") as actor,
        ):
            who = identity(actor.pid)

            def known() -> bool:
                proctree_bpf.handle_proc_events(tree, cache, connector.recv_datagram())
                info = cache.get_info(who.pid)
                return info is not None and info.cmd == "holder"

            wait_until("its exec", known)
            node, info = tree.get_node(who.pid), cache.get_info(who.pid)
            assert node is not None
            assert info is not None
            assert (node.cmd, node.ppid) == ("holder", os.getpid())
            assert info.args == ("a name", "an argument")
            assert as_identity(node.key) == who

    def test_proc_events_tell_whether_they_changed_anything(self, stage: Stage) -> None:
        tree, cache = PidTree(), ProcCache()
        with stage.hold("x") as actor:
            exec_ = wire.event(wire.EXEC, wire.task(actor.pid), monotonic_ns())
            buffer = bytearray(exec_ + bytes(100))
            assert proctree_bpf.handle_proc_events(tree, cache, buffer, len(exec_))
            assert not proctree_bpf.handle_proc_events(tree, cache, buffer, 0)
            assert not proctree_bpf.handle_proc_events(tree, cache, b"")
            noop = wire.netlink(b"", wire.NOOP)
            assert not proctree_bpf.handle_proc_events(tree, cache, noop)

    def test_a_hole_in_the_numbers_is_told_and_makes_names_uncertain(self, stage: Stage) -> None:
        tree, cache = PidTree(), ProcCache()
        gaps: list[proctree_bpf.Gap] = []
        with stage.hold("x") as actor, stage.hold("y") as other:
            proctree_bpf.snapshot(tree, cache)
            for seq, held in ((10, actor), (15, other)):
                exec_ = wire.event(wire.EXEC, wire.task(held.pid), monotonic_ns(), seq=seq)
                proctree_bpf.handle_proc_events(tree, cache, exec_, on_gap=gaps.append)
            assert [gap.count for gap in gaps] == [4]
            uncertain = {pid: tree.get_node(pid) for pid in (actor.pid, other.pid)}
            assert {pid: node and node.name_uncertain for pid, node in uncertain.items()} == {
                actor.pid: True,
                other.pid: False,  # its exec came after the hole
            }

    @pytest.mark.parametrize("data", [b"garbage", bytes(40), b"\xff" * 64])
    def test_proc_events_that_are_none_are_no_events(self, data: bytes) -> None:
        assert not proctree_bpf.handle_proc_events(PidTree(), ProcCache(), data)

    def test_after_an_exit_the_process_is_dead(self, stage: Stage) -> None:
        tree, cache = PidTree(), ProcCache()
        with ProcConnector(receive_buffer=HUGE_BUFFER) as connector:
            with stage.play("fork") as actor:
                proctree_bpf.snapshot(tree, cache)
                child = actor.await_report("child")

            def ended() -> bool:
                proctree_bpf.handle_proc_events(tree, cache, connector.recv_datagram())
                info = cache.get_info(child.pid)
                return info is not None and info.exit_code == 0

            wait_until("its exit", ended)


def test_without_the_connector_the_reason_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with PIDs of its own it would be silent: run for real in test_fallback."""
    source = ProcConnectorSource()

    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(proctree_bpf.SourceUnavailableError) as caught:
        source.open()
    assert "CAP_NET_ADMIN" in caught.value.reason
    assert caught.value.remedy
