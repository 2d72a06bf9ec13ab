"""Which records a filter admits; the stream comes from no kernel here."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.core.events import Exit, Fork, Gap
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.model import PidNode
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.errors import FilterError
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import TERMS, Filter, parse_terms, question
from support.filtered_world import INIT, SHELL, S, World


class TestRecords:
    @pytest.mark.parametrize(
        ("terms", "wanted"),
        [
            ("user=ada", True), ("user=1000", True), ("user=root", False), ("not-user=root", True),
            ("user=root,ada", True), ("name=ls", True), ("name=cat", False),
            ("line=-la$", True), ("line=^ls", True), ("not-line=^ls", False),
            ("pid=200", True), ("pid=201,200", True), ("not-pid=200", False), ("pid=1", False),
            ("ppid=100", True), ("ppid=1", False), ("failed", False), ("not-failed", True),
            ("min-age=9", True), ("max-age=0", True), ("name=ls user=root", False),
            ("name=ls user=ada", True), ("cgroup=/a", True), ("cgroup=/b", False),
        ],
    )  # fmt: skip
    def test_an_exec(self, terms: str, *, wanted: bool) -> None:
        world = World("")
        world.filter = BoundFilter(
            Filter.parse(terms),
            world.tracker.tree,
            world.tracker.cache,
            in_cgroup=lambda p, i: (p, i) == ("/a", 7),
        )
        child = world.fork(200, SHELL, uid=1000)
        assert world.exec(child, "ls", "ls -la") is wanted

    @pytest.mark.parametrize(
        ("terms", "status", "wanted"),
        [
            ("failed", 0, False), ("failed", 1 << 8, True), ("failed", 9, True),
            ("not-failed", 1 << 8, False), ("min-age=1", 0, True), ("min-age=3", 0, False),
            ("max-age=1", 0, False), ("max-age=3", 0, True), ("not-min-age=1", 0, False),
            ("min-age=1 max-age=3 failed", 256, True),
        ],
    )  # fmt: skip
    def test_an_exit_after_two_seconds(self, terms: str, status: int, *, wanted: bool) -> None:
        world = World(terms)
        child = world.fork(200, SHELL)
        world.now_ns += 2 * S
        assert world.exit(child, status) is wanted

    def test_a_status_that_nobody_knows_is_no_failure(self) -> None:
        world = World("failed")
        child = world.fork(200, SHELL)
        assert not world.admits(Exit(world.tick(), child, status=None))


class TestSurvey:
    def test_what_a_repair_added_is_decided(self) -> None:
        world = World("ancestor=deploy")
        parent, child = ProcessKey(300, 11 * S), ProcessKey(301, 12 * S)
        entries = [
            world.entry("init", INIT, ProcessKey(0)),
            world.entry("deploy", parent, INIT),
            world.entry("sh", child, parent),
        ]
        world.tracker.reconcile(entries, 13 * S, 13 * S)
        world.filter.survey()
        world.fork(302, child)
        assert world.admitted

    def test_a_name_that_may_be_out_of_date_decides_nothing(self) -> None:
        for terms, once_told in (("ancestor=evil", True), ("not-ancestor=evil", False)):
            world = World(terms)
            process = world.fork(200, INIT, comm="init")
            world.tracker.note_gap(Gap(world.tick(), "test", 1, "exec", 0, 1, world.now_ns + S))
            node = world.tracker.table.get(process)
            assert node is not None
            node.cmd = "evil"  # as an entry of /proc may have told too early
            world.filter.survey()
            world.fork(300, process, comm="x")
            assert not world.admitted
            world.exec(process, "evil")
            world.fork(301, process, comm="x")
            assert world.admitted is once_told

    def test_the_next_to_have_a_pid_may_be_met_before_the_last_ones_end(self) -> None:
        world = World("ancestor=deploy")
        root = world.fork(200, INIT)
        world.exec(root, "deploy")
        world.exec(root, "sleep")
        former = world.fork(201, root)
        # A look at /proc: both have ended by now, and 201 is another's.
        latter = ProcessKey(201, world.now_ns + 50 * S)
        entries = [
            world.entry("init", INIT, ProcessKey(0)),
            world.entry("x", latter, INIT),
        ]
        world.tracker.reconcile(entries, world.now_ns + 60 * S, world.now_ns + 60 * S)
        world.filter.survey()
        world.fork(300, former)  # what had happened before is told only now
        assert world.admitted
        assert world.exit(former)
        world.now_ns += 70 * S
        world.fork(301, latter)
        assert not world.admitted

    def test_nothing_is_kept_of_what_has_ended(self) -> None:
        world = World("ancestor=sshd")
        before = len(world.filter.ancestry)  # type: ignore[arg-type]
        for pid in range(200, 300):
            world.exit(world.fork(pid, SHELL))
        assert len(world.filter.ancestry) == before  # type: ignore[arg-type]

    def test_a_chain_of_100_000_is_decided(self) -> None:
        tracker = Tracker(PidTree(), ProcCache())
        tracker.tree.insert_node(1, PidNode(0, "deploy", 1, 1))
        for pid in range(2, 60_000):
            tracker.tree.insert_node(pid, PidNode(pid - 1, "x", pid, pid, pid - 1))
        wanted = BoundFilter(Filter.parse("ancestor=deploy"), tracker.tree, tracker.cache)
        wanted.survey()
        process_event = tracker.apply(
            Fork(70_000, ProcessKey(60_001, 70_000), ProcessKey(59_999, 59_999))
        )
        assert process_event is not None
        assert wanted.admits(process_event)


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("colour=red", "there is no filter 'colour'"),
            ("ancestor", "'ancestor' needs a value"),
            ("ancestor=", "'ancestor' needs a value"),
            ("ancestor=a,,b", "'ancestor' needs a value"),
            ("pid=abc", "needs a process id, not 'abc'"),
            ("pid=0", "needs a process id"), ("pid=-1", "needs a process id"),
            ("pid=4294967296", "needs a process id"), ("ppid=²", "needs a process id"),
            ("pid=" + "9" * 5000, "needs a process id"),
            ("line=(", "needs a regular expression"),
            ("min-age=soon", "needs a number of seconds"), ("max-age=-1", "needs a number"),
            ("min-age=inf", "needs a number"), ("max-age=nan", "needs a number"),
            ("failed=yes", "'failed' takes no value"),
            ("name='a", "cannot be split"), ("not-not-pid=1", "there is no filter"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_understood_is_one_clause(self, text: str, reason: str) -> None:
        with pytest.raises(FilterError, match=reason):
            parse_terms(text)

    def test_terms_given_again_are_alternatives(self) -> None:
        (q,) = parse_terms("name=a name=b,c")
        assert q.alternatives == ("a", "b", "c")

    def test_a_comma_can_belong_to_a_value(self) -> None:
        assert question("name", [r"a\,b"]).alternatives == ("a,b",)

    @pytest.mark.parametrize("name", TERMS)
    def test_every_term_can_be_turned_round_and_has_help(self, name: str) -> None:
        value = {"PID": ["1"], "SECONDS": ["1"], "": []}.get(TERMS[name].value.value, ["x"])
        assert question(f"not-{name}", value).negated
        assert TERMS[name].help.endswith(".")

    @given(st.text(max_size=40))
    def test_nothing_but_a_filter_error_leaves_the_parser(self, text: str) -> None:
        with suppress(FilterError):
            parse_terms(text)


def test_an_unknown_user_id_is_compared_by_its_number() -> None:
    world = World("user=4242")
    world.fork(200, SHELL, uid=4242)
    assert world.admitted
