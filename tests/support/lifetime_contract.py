"""What stores of nodes and of details have in common: finding, inserting, forgetting, threads."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

import pytest

from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.model import PidNode, ProcInfo

if TYPE_CHECKING:
    from proctree_bpf.core.stores import CacheStore, TreeStore

S = 1_000_000_000
TICK = 5 * TICK_NS
EXACT = TICK + 1_234
LATER = 9 * TICK_NS + 99
NOBODY = [0, 99_999, 2**32 - 1]


V = TypeVar("V", PidNode, ProcInfo)
Store = TypeVar("Store", bound="TreeStore | CacheStore")


class LifetimeContract(ABC, Generic[Store, V]):
    """What trees and caches have in common; the tests below are written with these four."""

    @abstractmethod
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> Store:
        """Return an empty store."""

    @abstractmethod
    def put(self, store: Store, value: V) -> list[V]:
        """Insert a value under its own PID; return what the store says it has evicted."""

    @abstractmethod
    def get(self, store: Store, who: int | ProcessKey) -> V | None:
        """Look a value up."""

    @abstractmethod
    def value(self, pid: int, start: int = 0, cmd: str = "x", exited_ns: int | None = None) -> V:
        """Make a value."""

    def ended(self, pid: int, start: int = 0, at: int = S, cmd: str = "x") -> V:
        return self.value(pid, start, cmd, exited_ns=at)

    # Finding

    @pytest.mark.parametrize("pid", NOBODY)
    def test_an_unknown_process_is_nobody(self, pid: int) -> None:
        store = self.make()
        assert self.get(store, pid) is None
        assert self.get(store, ProcessKey(pid)) is None
        assert self.get(store, ProcessKey(pid, EXACT)) is None

    def test_an_empty_store_has_no_length(self) -> None:
        assert len(self.make()) == 0

    def test_expiring_an_empty_store_removes_nothing(self) -> None:
        assert self.make().expire(10**18) == []

    @pytest.mark.parametrize("pid", [0, 1, 2**32 - 1])
    def test_any_pid_can_be_kept(self, pid: int) -> None:
        store = self.make()
        self.put(store, self.value(pid, EXACT))
        assert self.get(store, pid) == self.value(pid, EXACT)

    @pytest.mark.parametrize("who", [7, ProcessKey(7), ProcessKey(7, EXACT), ProcessKey(7, TICK)])
    def test_a_process_is_found_by_every_reading_of_its_identity(
        self, who: int | ProcessKey
    ) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT))
        assert self.get(store, who) == self.value(7, EXACT)

    def test_a_process_known_by_its_ticks_is_found_by_the_exact_time(self) -> None:
        store = self.make()
        self.put(store, self.value(7, TICK))
        assert self.get(store, ProcessKey(7, EXACT)) == self.value(7, TICK)

    @pytest.mark.parametrize("start", [TICK_NS, EXACT + 1, LATER])
    def test_a_key_with_a_start_time_never_gets_another_process(self, start: int) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT))
        assert self.get(store, ProcessKey(7, start)) is None

    def test_a_key_with_a_start_time_never_gets_a_process_of_unknown_start(self) -> None:
        store = self.make()
        self.put(store, self.value(7))
        assert self.get(store, ProcessKey(7, EXACT)) is None

    def test_a_bare_pid_means_the_living_process(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "living"))
        self.put(store, self.ended(7, LATER, cmd="dead"))
        found = self.get(store, 7)
        assert found is not None
        assert found.cmd == "living"

    def test_a_bare_pid_means_the_last_holder_if_none_lives(self) -> None:
        store = self.make()
        self.put(store, self.ended(7, LATER, cmd="second"))
        self.put(store, self.ended(7, EXACT, cmd="first"))
        found = self.get(store, 7)
        assert found is not None
        assert found.cmd == "second"

    def test_a_key_without_a_start_time_asks_as_a_bare_pid_does(self) -> None:
        store = self.make()
        self.put(store, self.value(7, cmd="dead"))
        self.put(store, self.ended(7, cmd="dead"))
        self.put(store, self.value(7, EXACT, "living"))
        assert (
            self.get(store, ProcessKey(7)) == self.get(store, 7) == self.value(7, EXACT, "living")
        )

    # Inserting

    def test_an_insert_replaces_what_is_known(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "old"))
        self.put(store, self.value(7, EXACT, "new"))
        assert self.get(store, 7) == self.value(7, EXACT, "new")
        assert len(store) == 1

    def test_an_exact_reading_sharpens_one_of_ticks(self) -> None:
        store = self.make()
        self.put(store, self.value(7, TICK, "old"))
        self.put(store, self.value(7, EXACT, "new"))
        assert self.get(store, 7) == self.value(7, EXACT, "new")
        assert self.get(store, ProcessKey(7, TICK)) == self.value(7, EXACT, "new")
        assert len(store) == 1

    @pytest.mark.parametrize("start", [TICK, 0])
    def test_a_start_time_once_known_is_not_blunted(self, start: int) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "old"))
        self.put(store, self.value(7, start, "new"))
        assert self.get(store, 7) == self.value(7, EXACT, "new")
        assert len(store) == 1

    def test_a_start_time_may_come_after_the_process(self) -> None:
        store = self.make()
        self.put(store, self.value(7))
        self.put(store, self.value(7, EXACT))
        assert self.get(store, 7) == self.value(7, EXACT)
        assert len(store) == 1

    def test_another_start_time_is_another_process(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "one"))
        self.put(store, self.value(7, LATER, "two"))
        assert self.get(store, ProcessKey(7, EXACT)) == self.value(7, EXACT, "one")
        assert self.get(store, ProcessKey(7, LATER)) == self.value(7, LATER, "two")
        assert len(store) == 2

    def test_processes_of_one_tick_are_told_apart_by_their_nanoseconds(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "one"))
        self.put(store, self.value(7, EXACT + 1, "two"))
        assert self.get(store, ProcessKey(7, EXACT)) == self.value(7, EXACT, "one")
        assert self.get(store, ProcessKey(7, EXACT + 1)) == self.value(7, EXACT + 1, "two")

    @pytest.mark.parametrize("start", [0, TICK, EXACT])
    def test_an_end_is_noted_on_the_process_itself(self, start: int) -> None:
        store = self.make()
        self.put(store, self.value(7, start))
        self.put(store, self.ended(7, start))
        assert self.get(store, 7) == self.ended(7, start)
        assert len(store) == 1

    def test_without_a_start_time_an_insert_is_not_about_an_ended_process(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "old"))
        self.put(store, self.ended(7, EXACT, cmd="old"))
        self.put(store, self.value(7, cmd="new"))
        assert self.get(store, 7) == self.value(7, cmd="new")
        assert self.get(store, ProcessKey(7, EXACT)) == self.ended(7, EXACT, cmd="old")

    def test_a_living_process_outlasts_a_former_one_that_nothing_tells_apart(self) -> None:
        store = self.make()
        self.put(store, self.value(7, cmd="old"))
        self.put(store, self.ended(7, cmd="old"))
        self.put(store, self.value(7, cmd="new"))
        store.expire(S + 601 * S)
        assert self.get(store, 7) == self.value(7, cmd="new")
        assert len(store) == 1

    def test_an_end_that_turns_out_wrong_can_be_taken_back(self) -> None:
        store = self.make()
        self.put(store, self.ended(7, EXACT))
        self.put(store, self.value(7, EXACT))
        assert len(store) == 1
        store.expire(S + 601 * S)
        assert self.get(store, 7) == self.value(7, EXACT)
        assert len(store) == 1

    # Forgetting

    def test_the_living_never_expire(self) -> None:
        store = self.make(ttl_secs=1)
        self.put(store, self.value(7, EXACT))
        assert store.expire(10**18) == []
        assert self.get(store, 7) == self.value(7, EXACT)

    def test_the_ended_are_kept_from_their_end_for_the_ttl(self) -> None:
        store = self.make(ttl_secs=10)
        self.put(store, self.value(7, EXACT))
        store.expire(100 * S)
        self.put(store, self.ended(7, EXACT, at=101 * S))
        assert store.expire(111 * S - 1) == []
        assert self.get(store, 7) is not None
        assert store.expire(111 * S) == [self.ended(7, EXACT, at=101 * S)]
        assert self.get(store, 7) is None
        assert self.get(store, ProcessKey(7, EXACT)) is None
        assert len(store) == 0

    def test_time_does_not_go_back(self) -> None:
        store: Store = self.make(ttl_secs=10)
        self.put(store, self.ended(7, EXACT, at=S))
        store.expire(9 * S)
        assert store.expire(0) == []
        assert store.expire(11 * S) == [self.ended(7, EXACT, at=S)]
        store.expire(0)
        gone: list[V] = self.put(store, self.ended(8, EXACT, at=S))
        later: list[V] = [*store.expire(0)]
        assert [*gone, *later] == [self.ended(8, EXACT, at=S)]

    @pytest.mark.parametrize("lives_first", [True, False])
    def test_an_end_that_is_told_after_its_ttl_leaves_nothing_behind(
        self, *, lives_first: bool
    ) -> None:
        store: Store = self.make(ttl_secs=10)
        store.expire(100 * S)
        if lives_first:
            self.put(store, self.value(7, EXACT))
        gone: list[V] = self.put(store, self.ended(7, EXACT, at=S))
        later: list[V] = [*store.expire(100 * S)]
        assert [*gone, *later] == [self.ended(7, EXACT, at=S)]
        assert self.get(store, 7) is None
        assert len(store) == 0

    def test_a_ttl_of_nothing_forgets_at_the_end(self) -> None:
        store = self.make(ttl_secs=0)
        self.put(store, self.ended(7, EXACT, at=S))
        assert store.expire(S) == [self.ended(7, EXACT, at=S)]
        assert len(store) == 0

    def test_a_store_stays_within_its_capacity(self) -> None:
        store = self.make(capacity=3)
        evicted = [self.put(store, self.value(pid, EXACT)) for pid in range(1, 11)]
        assert [len(gone) for gone in evicted] == [0, 0, 0] + [1] * 7
        assert len(store) == 3

    def test_what_was_evicted_is_returned_and_gone(self) -> None:
        store = self.make(capacity=1)
        self.put(store, self.value(7, EXACT))
        assert self.put(store, self.value(8, EXACT)) == [self.value(7, EXACT)]
        assert self.get(store, 7) is None
        assert self.get(store, 8) == self.value(8, EXACT)

    def test_the_living_are_not_evicted_while_an_ended_process_can_be(self) -> None:
        store = self.make(capacity=4)
        for pid in (1, 2, 3, 4):
            self.put(store, self.value(pid, EXACT))
        self.put(store, self.ended(3, EXACT))
        assert self.put(store, self.value(5, EXACT)) == [self.ended(3, EXACT)]
        assert all(self.get(store, pid) is not None for pid in (1, 2, 4, 5))

    def test_an_update_of_a_full_store_evicts_nobody(self) -> None:
        store = self.make(capacity=2)
        self.put(store, self.value(1, TICK))
        self.put(store, self.value(2, TICK))
        assert self.put(store, self.value(1, EXACT, "new")) == []
        assert self.put(store, self.ended(2, EXACT)) == []
        assert len(store) == 2

    # Threads

    def test_readers_are_not_disturbed_by_the_writer(self) -> None:
        store = self.make(capacity=50, ttl_secs=1)
        done = threading.Event()
        errors: list[BaseException] = []

        def read() -> None:
            try:
                while not done.is_set():
                    for pid in range(1, 40):
                        found = self.get(store, pid)
                        assert found is None or found.key.pid == pid
                    assert len(store) <= 50
                    self.scan(store)
            except BaseException as error:  # noqa: BLE001 - told in the test's own thread
                errors.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for turn in range(1, 600):
                pid, start = turn % 40, turn * TICK_NS + 1
                self.put(store, self.value(pid, start))
                self.put(store, self.ended(pid, start, at=turn * S // 100))
                if turn % 20 == 0:
                    store.expire(turn * S // 100)
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert errors == []

    def scan(self, store: Store) -> None:
        """Ask what no other test asks of a store that is being written to."""
