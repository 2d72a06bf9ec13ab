"""What the proc connector lost, as gaps and in counts."""

from __future__ import annotations

import pytest

from proctree_bpf import Exec, Gap
from support import connector_messages as wire
from support.fake_connector import CHILD, PARENT, FakeConnector


class TestLosses:
    def test_a_hole_in_a_cpus_numbers_is_a_gap_of_that_size(self, scene: FakeConnector) -> None:
        scene.child()
        before_ns = scene.now_ns()
        scene.kernel.drop(7)
        scene.poll(scene.kernel.exec(CHILD))
        now_ns = scene.now_ns()
        assert scene.gaps == [Gap(now_ns, "proc-connector", 7, None, 0, before_ns, now_ns)]
        assert scene.stream.summary()["lost"] == 7

    def test_numbers_are_counted_by_cpu(self, scene: FakeConnector) -> None:
        first = [scene.kernel.fork(PARENT, 500 + cpu, cpu) for cpu in range(4)]
        scene.kernel.drop(5, cpu=2)
        second = [scene.kernel.fork(PARENT, 510 + cpu, cpu) for cpu in range(4)]
        scene.poll(*first, *second)
        assert [(gap.cpu, gap.count) for gap in scene.gaps] == [(2, 5)]
        by_cpu = scene.stream.summary()["by_cpu"]
        assert [(c["cpu"], c["received"], c["lost"]) for c in by_cpu] == [
            (0, 2, 0), (1, 2, 0), (2, 2, 5), (3, 2, 0),
        ]  # fmt: skip

    @pytest.mark.parametrize("lost", [0, 1, 5])
    def test_the_numbers_start_again_after_32_bits(self, scene: FakeConnector, lost: int) -> None:
        scene.kernel.seq[0] = 2**32 - 2
        scene.poll(scene.kernel.fork(PARENT, 500), scene.kernel.fork(PARENT, 501))
        scene.kernel.drop(lost)
        scene.poll(scene.kernel.fork(PARENT, 502), scene.kernel.fork(PARENT, 503))
        assert sum(gap.count or 0 for gap in scene.gaps) == lost

    def test_where_a_cpus_numbers_begin_is_no_gap(self, scene: FakeConnector) -> None:
        scene.kernel.seq[0] = 123_456
        scene.child()
        assert scene.gaps == []

    def test_a_message_from_the_past_is_no_gap(self, scene: FakeConnector) -> None:
        first, second = scene.kernel.exec(PARENT), scene.kernel.exec(PARENT)
        scene.poll(second)
        scene.poll(first)
        assert scene.gaps == []

    def test_a_message_from_the_past_does_not_make_the_next_one_a_gap(
        self, scene: FakeConnector
    ) -> None:
        first, second, third = (scene.kernel.exec(PARENT) for _ in range(3))
        scene.poll(second, first, third)
        assert scene.gaps == []

    def test_an_overrun_that_numbers_explain_is_one_gap(self, scene: FakeConnector) -> None:
        scene.child()
        assert scene.poll(overrun=True) == []
        scene.kernel.drop(3)
        scene.poll(scene.kernel.exec(CHILD))
        assert [gap.count for gap in scene.gaps] == [3]
        scene.poll()
        assert len(scene.gaps) == 1

    def test_an_overrun_without_an_explanation_is_a_gap_of_unknown_size(
        self, scene: FakeConnector
    ) -> None:
        scene.child()
        scene.poll(overrun=True)
        scene.poll(complete=False)
        assert scene.gaps == []
        scene.poll()
        scene.poll()
        (gap,) = scene.gaps
        assert (gap.source, gap.count, gap.kind) == ("proc-connector", None, None)
        assert scene.stream.summary()["overruns"] == 1

    def test_an_overrun_message_counts_as_an_overrun(self, scene: FakeConnector) -> None:
        scene.poll(wire.netlink(b"", wire.OVERRUN) + scene.kernel.exec(PARENT))
        assert scene.stream.summary()["overruns"] == 1
        assert [gap.count for gap in scene.gaps] == [None]

    def test_what_cannot_be_read_counts_as_lost(self, scene: FakeConnector) -> None:
        events = scene.poll(b"garbage", scene.kernel.exec(PARENT)[:-10], b"\0" * 40)
        assert events == []
        summary = scene.stream.summary()
        assert summary["undecodable"] == summary["lost"] == 3

    def test_after_what_cannot_be_read_the_rest_of_the_datagram_is(
        self, scene: FakeConnector
    ) -> None:
        bad = wire.netlink(wire.connector(b"", idx=9))
        events = scene.poll(bad + scene.kernel.exec(PARENT))
        assert [type(event) for event in events] == [Exec]


def test_every_kind_is_counted_by_its_name(scene: FakeConnector) -> None:
    scene.poll(
        scene.kernel.fork(PARENT, CHILD),
        scene.kernel.exec(CHILD),
        scene.kernel.send(wire.SID, wire.task(CHILD)),
        scene.kernel.send(0x8, b""),
        scene.kernel.exit(CHILD),
    )
    counts = {kind: n["received"] for kind, n in scene.stream.summary()["by_kind"].items()}
    assert counts == {"fork": 1, "exec": 1, "sid": 1, "other": 1, "exit": 1}
