"""Which records a filter admits by ancestry; the stream comes from no kernel here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.core.events import Exec, Exit, Rename
from proctree_bpf.errors import FilterError
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import TERMS, Filter, Question
from support.filtered_world import INIT, SHELL, World

if TYPE_CHECKING:
    from proctree_bpf.core.identity import ProcessKey


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

    def test_an_orphan_is_under_whoever_adopts_it_as_soon_as_that_is_told(self) -> None:
        world = World("ancestor=bash", by_parent=True, include_self=False)
        parent = world.fork(200, INIT, "sub")
        child = world.fork(201, parent, "sub")
        assert not world.admitted
        world.admits(Exit(world.tick(), parent, INIT, status=0, reaper=SHELL))
        assert world.admits(Rename(world.tick(), child, "orphan"))

    def test_creators_keep_it(self) -> None:
        world = World("ancestor=bash", include_self=False)
        parent = world.fork(200, SHELL, "sub")
        child = world.fork(201, parent, "sub")
        world.exit(parent)
        assert world.admits(Exec(world.tick(), child, comm="daemon", parent=INIT))


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


def test_a_program_that_was_replaced_while_it_runs_is_still_itself() -> None:
    world = World("ancestor-exe=/opt/agent")
    child = world.fork(200, INIT)
    assert world.exec(child, "agent", path="/opt/agent (deleted)")
