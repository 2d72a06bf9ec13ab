"""Which records a filter admits; the stream comes from no kernel here."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.core.events import Exec, Exit, Fork, ProcEvent, Rename
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.model import PidNode, ProcInfo
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.errors import FilterError
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import TERMS, Filter, Question, parse_terms, question

S = 1_000_000_000
INIT, SSHD, SHELL = ProcessKey(1, 10_000_000), ProcessKey(50, S), ProcessKey(100, 2 * S)


class World:
    """A tracker that knows init, sshd and a shell, and the filter that is tested."""

    def __init__(self, terms: str, **options: bool) -> None:
        self.tracker = Tracker(PidTree(), ProcCache(), {0: "root", 1000: "ada"}.get)
        self.now_ns = 10 * S
        known = [("init", INIT, ProcessKey(0)), ("sshd", SSHD, INIT), ("bash", SHELL, SSHD)]
        self.tracker.merge_snapshot([self.entry(*each) for each in known])
        wanted = Filter.parse(terms, **options)
        self.filter = BoundFilter(wanted, self.tracker.tree, self.tracker.cache)
        self.filter.survey()

    @staticmethod
    def entry(cmd: str, key: ProcessKey, creator: ProcessKey) -> tuple[PidNode, ProcInfo]:
        node = PidNode(creator.pid, cmd, key.start_time_ns, key.pid, creator.start_time_ns)
        info = ProcInfo(
            cmd, "root", creator.pid, key.pid, key.start_time_ns, uid=0,
            executable=f"/usr/bin/{cmd}", args_raw=f"{cmd}\0-x\0".encode(),
        )  # fmt: skip
        return node, info

    def admits(self, event: ProcEvent) -> bool:
        process_event = self.tracker.apply(event)
        assert process_event is not None
        return self.filter.admits(process_event)

    def tick(self) -> int:
        self.now_ns += 1_000_001
        return self.now_ns

    def fork(self, pid: int, creator: ProcessKey, comm: str = "bash", uid: int = 0) -> ProcessKey:
        self.child = ProcessKey(pid, self.tick())
        event = Fork(
            self.now_ns, self.child, creator, parent=creator, uid=uid, comm=comm, cgroup_id=7
        )
        self.admitted = self.admits(event)
        return self.child

    def exec(self, key: ProcessKey, comm: str, args: str = "", path: str = "") -> bool:
        raw = (args or comm).replace(" ", "\0").encode() + b"\0"
        return self.admits(
            Exec(self.tick(), key, comm=comm, args_raw=raw, executable=path or f"/usr/bin/{comm}")
        )

    def exit(self, key: ProcessKey, status: int = 0) -> bool:
        return self.admits(Exit(self.tick(), key, status=status))


class TestAncestor:
    @pytest.mark.parametrize("term", ["ancestor", "name"])
    def test_of_a_name_counts_what_the_kernel_keeps(self, term: str) -> None:
        """Also for questions that were not parsed, and where ``/proc`` shows a longer one."""
        long = "rcu_tasks_rude_kthread"
        world = World(f"{term}={long}")
        tree, cache = world.tracker.tree, world.tracker.cache
        made = BoundFilter(Filter((Question(TERMS[term], (long,)),)), tree, cache)
        for wanted in (world.filter, made):
            world.filter = wanted
            child = world.fork(200, SHELL)
            assert world.exec(child, long)
            assert not world.exec(world.fork(201, SHELL), "rcu_tasks")

    def test_what_runs_under_it_is_wanted(self) -> None:
        world = World("ancestor=sshd")
        child = world.fork(200, SHELL)
        assert world.admitted
        assert world.exec(child, "ls")
        assert world.exit(child)

    def test_what_does_not_is_not(self) -> None:
        world = World("ancestor=sshd")
        child = world.fork(200, INIT)
        assert not world.admitted
        assert not world.exec(child, "ls")
        assert not world.exit(child)

    def test_it_is_itself_wanted(self) -> None:
        world = World("ancestor=deploy")
        child = world.fork(200, INIT)
        assert not world.admitted
        assert world.exec(child, "deploy")

    def test_it_is_not_itself_wanted_if_so_asked(self) -> None:
        world = World("ancestor=deploy", include_self=False)
        child = world.fork(200, INIT)
        assert not world.exec(child, "deploy")
        world.fork(201, child, "deploy")
        assert world.admitted

    def test_one_under_another_of_that_name_is_wanted_without_itself_too(self) -> None:
        world = World("ancestor=bash", include_self=False)
        world.fork(200, SHELL)
        assert world.admitted

    def test_what_it_became_came_from_it(self) -> None:
        world = World("ancestor=deploy")
        child = world.fork(200, INIT)
        world.exec(child, "deploy")
        assert world.exec(child, "sleep")
        assert world.exit(child)

    def test_its_children_stay_when_it_has_ended(self) -> None:
        world = World("ancestor=deploy")
        parent = world.fork(200, INIT)
        world.exec(parent, "deploy")
        child = world.fork(201, parent)
        world.exit(parent)
        grandchild = world.fork(202, child)
        assert world.admitted
        world.exit(child)
        assert world.exec(grandchild, "daemon")

    def test_the_next_to_have_its_pid_is_another(self) -> None:
        world = World("ancestor=deploy")
        parent = world.fork(200, INIT)
        world.exec(parent, "deploy")
        world.exit(parent)
        reused = world.fork(200, INIT)
        assert not world.admitted
        world.fork(201, reused)
        assert not world.admitted

    def test_children_that_it_had_before_its_exec_join(self) -> None:
        world = World("ancestor=deploy")
        parent = world.fork(200, INIT)
        middle = world.fork(201, parent)
        child = world.fork(202, middle)
        world.exit(middle)
        assert not world.admits(Rename(world.tick(), child, "worker"))
        assert world.exec(parent, "deploy")
        assert world.exec(child, "cat")

    def test_a_name_given_by_prctl_counts(self) -> None:
        world = World("ancestor=deploy")
        child = world.fork(200, INIT)
        assert world.admits(Rename(world.tick(), child, "deploy"))
        world.fork(201, child, "deploy")
        assert world.admitted

    def test_a_name_that_a_thread_gave_to_what_it_forked_counts(self) -> None:
        world = World("ancestor=worker")
        world.fork(200, INIT, "worker")
        assert world.admitted

    def test_names_are_alternatives(self) -> None:
        world = World("ancestor=cron,sshd")
        world.fork(200, SHELL)
        assert world.admitted

    def test_a_name_is_compared_as_the_kernel_cuts_it(self) -> None:
        world = World("ancestor=a-very-long-program-name")
        child = world.fork(200, INIT)
        assert world.exec(child, "a-very-long-pro")

    def test_turned_round_it_leaves_out_what_ran_under_it(self) -> None:
        world = World("not-ancestor=sshd")
        world.fork(200, SHELL)
        assert not world.admitted
        world.fork(201, INIT)
        assert world.admitted

    def test_two_kinds_must_both_hold(self) -> None:
        world = World("ancestor=sshd ancestor-exe=*/deploy")
        child = world.fork(200, SHELL)
        assert not world.admitted
        assert world.exec(child, "deploy")
        world.fork(201, child)
        assert world.admitted
        other = world.fork(202, INIT)
        assert not world.exec(other, "deploy")


class TestAncestorPid:
    def test_what_runs_under_it_is_wanted(self) -> None:
        world = World("ancestor-pid=50")
        child = world.fork(200, SHELL)
        assert world.admitted
        assert world.exit(child)
        world.fork(201, INIT)
        assert not world.admitted

    def test_the_next_to_have_the_pid_is_another(self) -> None:
        world = World("ancestor-pid=100")
        assert world.exit(SHELL)
        reused = world.fork(100, INIT)
        assert not world.admitted
        world.fork(201, reused)
        assert not world.admitted

    def test_a_pid_that_nobody_has_is_an_error(self) -> None:
        with pytest.raises(FilterError, match="no process has PID 4242"):
            World("ancestor-pid=4242")


@pytest.mark.parametrize(
    ("terms", "path", "wanted"),
    [
        ("ancestor-exe=/opt/agent", "/opt/agent", True),
        ("ancestor-exe=/opt/agent", "/opt/agent2", False),
        ("ancestor-exe=/opt/*", "/opt/a/b", True),
        ("ancestor-exe=*/agent,/bin/x", "/srv/agent", True),
        ("ancestor-exe=[", "[", True),
        ("'ancestor-regex=^agent .*--fast'", "/opt/agent", True),
        ("ancestor-regex=--slow", "/opt/agent", False),
        ("ancestor-regex=a,b|--fast", "/opt/agent", True),
    ],
)
def test_an_ancestor_can_be_told_by_what_it_runs(terms: str, path: str, *, wanted: bool) -> None:
    world = World(terms)
    parent = world.fork(200, INIT)
    assert world.exec(parent, "agent", "agent --fast", path) is wanted
    child = world.fork(201, parent)
    assert world.admitted is wanted
    assert world.exec(child, "ls") is wanted
    assert world.exit(child) is wanted


class TestByParent:
    def test_an_orphan_has_left(self) -> None:
        world = World("ancestor=bash", by_parent=True, include_self=False)
        parent = world.fork(200, SHELL, "sub")
        child = world.fork(201, parent, "sub")
        assert world.admitted
        world.exit(parent)
        orphaned = Exec(world.tick(), child, comm="daemon", parent=INIT)
        assert not world.admits(orphaned)

    def test_creators_keep_it(self) -> None:
        world = World("ancestor=bash", include_self=False)
        parent = world.fork(200, SHELL, "sub")
        child = world.fork(201, parent, "sub")
        world.exit(parent)
        assert world.admits(Exec(world.tick(), child, comm="daemon", parent=INIT))


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


_DESCENT = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["fork", "exec", "deploy", "exit"])), max_size=60
)


@given(_DESCENT)
def test_it_agrees_with_a_naive_model(steps: list[tuple[int, str]]) -> None:
    """Under: its own names ever, or those of whoever created it, ever."""
    world = World("ancestor=deploy")
    living = [SHELL]
    creators: dict[ProcessKey, ProcessKey] = {}
    were: set[ProcessKey] = set()
    for pid, (choice, action) in enumerate(steps, 1000):
        key = living[choice % len(living)]
        if action == "fork":
            child = world.fork(pid, key, "x")
            living.append(child)
            creators[child] = key
            admitted, subject = world.admitted, child
        elif action == "exit" and len(living) > 1:
            living.remove(key)
            admitted, subject = world.exit(key), key
        else:
            name = "deploy" if action == "deploy" else "y"
            were |= {key} if name == "deploy" else set()
            admitted, subject = world.exec(key, name), key
        line: ProcessKey | None = subject
        expected = False
        while line is not None:
            expected |= line in were
            line = creators.get(line)
        assert admitted is expected


def test_an_unknown_user_id_is_compared_by_its_number() -> None:
    world = World("user=4242")
    world.fork(200, SHELL, uid=4242)
    assert world.admitted


def test_a_program_that_was_replaced_while_it_runs_is_still_itself() -> None:
    world = World("ancestor-exe=/opt/agent")
    child = world.fork(200, INIT)
    assert world.exec(child, "agent", path="/opt/agent (deleted)")
