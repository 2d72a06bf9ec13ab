"""The judge itself: told the truth it finds nothing, and it finds each kind of wrong answer."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_OFFSET_S = 1_700_000_000
_ROOT, _MAKER, _CHILD, _SIBLING = 100, 101, 102, 103


def _hex(text: str) -> str:
    return f"x{text.encode().hex()}"


# The maker execs "oak", creates the child, which becomes user 7 and "elm", and ends; then the
# maker creates the sibling by CLONE_PARENT. Times are as far apart as they must be.
_TRUTH = "\n".join([
    f"R {_ROOT} 1000 9 0 {_hex('forest')} {_hex('/f/forest')} {_hex('forest')}",
    f"B {_MAKER} 1100 {_ROOT} 1000 1050 {_ROOT} {_ROOT} 9 {_MAKER} 9 0 0 {_hex('forest')}",
    f"E {_MAKER} 1100 1200 {_ROOT} 1250 {_ROOT} 0 {_hex('oak')} {_hex('/f/oak')} {_hex('a')} x",
    f"B {_CHILD} 1400 {_MAKER} 1100 1300 {_MAKER} {_MAKER} 9 {_CHILD} 9 0 0 {_hex('oak')}",
    f"U {_CHILD} 1400 1410 1420 7",
    f"E {_CHILD} 1400 1500 {_MAKER} 1550 {_MAKER} 7 {_hex('elm')} {_hex('/f/elm')} {_hex('b')}",
    f"X {_CHILD} 1400 1600 {_MAKER}",
    f"W 9 {_CHILD} {3 << 8} 1700 {_MAKER}",
    f"B {_SIBLING} 1900 {_MAKER} 1100 1800 {_ROOT} {_ROOT} 9 {_SIBLING} 9 0 0 {_hex('oak')}",
    f"K 9 {_SIBLING} 2000",
    f"W 9 {_SIBLING} {9 | 0x80} 2100 {_ROOT}",
    f"X {_MAKER} 1100 2200 {_ROOT}",
    f"W 9 {_MAKER} 0 2300 {_ROOT}",
]).encode()  # fmt: skip


def _stamp(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(_OFFSET_S, UTC):%Y-%m-%dT%H:%M:%S}.{time_ns:09d}Z"


class _Teller(NamedTuple):
    """A process as its records have it."""

    pid: int
    start_ns: int
    parent: int
    chain: list[int]

    def tells(
        self, action: str, time_ns: int, runs: tuple[str, str, list[str]], *, uid: int = 0
    ) -> dict[str, Any]:
        name, file, args = runs
        process = {
            "pid": self.pid, "name": name, "executable": file, "args": args,
            "start": _stamp(self.start_ns), "user": {"id": str(uid), "name": "someone"},
            "parent": {"pid": self.parent},
        }  # fmt: skip
        ours: dict[str, Any] = {
            "start_time_ns": self.start_ns, "inherited": False, "truncated": False,
            "chain": [{"pid": one, "name": "any"} for one in self.chain],
        }  # fmt: skip
        if action == "fork":
            ours["creator"] = {"pid": self.chain[0]}
        if action == "exit":
            process |= {"exit_code": 0}
            ours |= {"exit_signal": None, "core_dumped": False}
        event = {"action": action}
        return {
            "@timestamp": _stamp(time_ns), "event": event, "process": process, "proctree": ours,
        }  # fmt: skip


def _all_told() -> list[dict[str, Any]]:
    forest, oak, elm = ("forest", "/f/forest", ["forest"]), ("oak", "/f/oak", ["a", ""]), (
        "elm", "/f/elm", ["b"],
    )  # fmt: skip
    maker = _Teller(_MAKER, 1060, _ROOT, [_ROOT])
    child = _Teller(_CHILD, 1310, _MAKER, [_MAKER, _ROOT])
    sibling = _Teller(_SIBLING, 1810, _ROOT, [_MAKER, _ROOT])
    told = [
        maker.tells("fork", 1060, forest),
        maker.tells("exec", 1220, oak),
        child.tells("fork", 1310, oak),
        child.tells("exec", 1510, elm, uid=7),
        child.tells("exit", 1610, elm, uid=7),
        sibling.tells("fork", 1810, oak),
        sibling.tells("exit", 2010, oak),
        maker.tells("exit", 2210, oak),
    ]
    told[4]["process"]["exit_code"] = 3
    told[6]["process"]["exit_code"] = None
    told[6]["proctree"] |= {"exit_signal": 9, "core_dumped": True}
    return told


@pytest.fixture
def judged(lib: Any) -> Callable[..., Any]:
    """Return what judges records as if a source had told them."""

    def judge(told: list[dict[str, Any]], source: str = "bpf", terms: str = "") -> Any:
        truth = lib("truth").Truth(_TRUTH, 900)
        read = lib("told").read_told(map(json.dumps, told))
        return lib("judge").Judge(truth, read, lib("sources").SOURCES[source], terms)

    return judge


def test_what_is_true_is_right_in_every_row(judged: Callable[..., Any]) -> None:
    for row in judged(_all_told()).rows.values():
        assert (row.wrong, row.doubted, row.absent) == (0, 0, 0), row
        assert row.precision == row.recall == 1.0


# Row, number of the record, where in it, and what a liar would say.
_LIES: list[tuple[str, int, str, Any]] = [
    ("names", 3, "process.name", "oak"),
    ("arguments", 1, "process.args", ["a"]),
    ("executables", 3, "process.executable", "/f/oak"),
    ("users", 3, "process.user.id", "0"),
    ("creators", 5, "proctree.creator.pid", _ROOT),
    ("parents", 5, "process.parent.pid", _MAKER),
    ("parents", 7, "process.parent.pid", 1),
    ("exit statuses", 4, "process.exit_code", 4),
    ("exit statuses", 6, "proctree.core_dumped", False),
    ("exit statuses", 6, "proctree.exit_signal", 15),
    ("chains", 2, "proctree.chain", [{"pid": _ROOT, "name": "any"}]),
    ("times", 2, "@timestamp", _stamp(1299)),
    ("execs", 3, "event.action", "fork"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "number", "where", "lie"), _LIES)
def test_each_kind_of_lie_is_found_in_its_row(
    judged: Callable[..., Any], row: str, number: int, where: str, lie: Any
) -> None:
    told = _all_told()
    _put(told[number], where, lie)
    found = judged(told).rows[row]
    if row == "execs":
        assert found.absent == 1
        assert judged(told).rows["forks"].wrong == 1
    else:
        assert found.wrong == 1
        assert found.precision < 1.0
        assert len(found.examples) == 1


@pytest.mark.parametrize(("row", "number", "where", "lie"), _LIES[:6])
def test_a_lie_in_a_record_that_says_it_is_uncertain_is_doubted(
    judged: Callable[..., Any], row: str, number: int, where: str, lie: Any
) -> None:
    told = _all_told()
    _put(told[number], where, lie)
    told[number]["proctree"]["uncertain"] = True
    found = judged(told).rows[row]
    assert (found.wrong, found.doubted) == (0, 1)
    assert found.precision == 1.0
    assert found.recall < 1.0


@pytest.mark.parametrize(("ends_ns", "wrong"), [(1450, 0), (1560, 1)], ids=["ended", "lives"])
def test_an_adopter_may_be_told_from_the_end_of_the_parent_on(
    lib: Any, ends_ns: int, wrong: int
) -> None:
    truth = "\n".join([
        f"R {_ROOT} 1000 9 0 {_hex('forest')} {_hex('/f/forest')} {_hex('forest')}",
        f"B {_MAKER} 1100 {_ROOT} 1000 1050 {_ROOT} {_ROOT} 9 {_MAKER} 9 0 0 {_hex('oak')}",
        f"B {_CHILD} 1400 {_MAKER} 1100 1300 {_MAKER} {_MAKER} 9 {_CHILD} 9 0 0 {_hex('oak')}",
        f"E {_CHILD} 1400 1500 {_MAKER} 1550 {_MAKER} 0 {_hex('elm')} {_hex('/f/elm')} {_hex('b')}",
        f"X {_MAKER} 1100 {ends_ns} {_ROOT}",
        f"W 9 {_MAKER} 0 1590 {_ROOT}",
        f"X {_CHILD} 1400 1600 {_ROOT}",
        f"W 9 {_CHILD} 0 1700 {_ROOT}",
    ]).encode()  # fmt: skip
    child = _Teller(_CHILD, 1310, _ROOT, [_MAKER, _ROOT])
    told = [child.tells("exec", 1510, ("elm", "/f/elm", ["b"]))]
    read = lib("told").read_told(map(json.dumps, told))
    judge = lib("judge").Judge(lib("truth").Truth(truth, 900), read, lib("sources").SOURCES["bpf"])
    assert judge.rows["parents"].wrong == wrong


def test_what_is_not_told_costs_recall_and_not_precision(judged: Callable[..., Any]) -> None:
    told = _all_told()
    told[3]["process"] |= {"args": None, "executable": None}
    rows = judged(told).rows
    for name in ("arguments", "executables"):
        assert (rows[name].wrong, rows[name].absent) == (0, 1)


def test_a_lost_record_is_missing_in_all_that_it_would_have_told(
    judged: Callable[..., Any],
) -> None:
    told = _all_told()
    del told[6]
    rows = judged(told).rows
    for name in ("exits", "names", "exit statuses", "parents", "order"):
        assert (rows[name].wrong, rows[name].absent) == (0, 1)
    assert rows["processes"].absent == 0


def test_a_process_of_which_nothing_is_told_is_missing(judged: Callable[..., Any]) -> None:
    told = [record for record in _all_told() if record["process"]["pid"] != _CHILD]
    assert judged(told).rows["processes"].absent == 1


def test_an_event_that_is_told_twice_is_wrong(judged: Callable[..., Any]) -> None:
    told = _all_told()
    told.insert(4, copy.deepcopy(told[3]))
    assert judged(told).rows["execs"].wrong == 1


def test_a_process_that_never_was_is_wrong(judged: Callable[..., Any]) -> None:
    told = _all_told()
    told[2]["process"]["pid"] = 999
    rows = judged(told).rows
    assert rows["processes"].wrong == rows["forks"].wrong == rows["forks"].absent == 1


def test_a_start_that_is_not_exact_makes_it_another_process(judged: Callable[..., Any]) -> None:
    told = _all_told()
    for record in told:
        if record["process"]["pid"] == _CHILD:
            record["proctree"]["start_time_ns"] += 200
    rows = judged(told).rows
    assert rows["processes"].wrong == rows["processes"].absent == 1
    assert sum(rows[f"{kind}s"].wrong for kind in ("fork", "exec", "exit")) == 3


def test_what_is_told_too_late_is_out_of_order(judged: Callable[..., Any]) -> None:
    told = _all_told()
    told.append(told.pop(2))
    assert judged(told).rows["order"].wrong == 1


def test_names_that_are_not_utf_8_are_compared_as_bytes(lib: Any) -> None:
    record = _all_told()[0]
    record["process"]["name"] = r"\xff\\x"
    record["proctree"]["escaped"] = True
    (read,) = lib("told").read_told([json.dumps(record)]).records
    assert read.name == b"\xff\\x"


@pytest.mark.parametrize(("terms", "wanted"), [
    ("ancestor=oak", {1, 2, 3, 4, 5, 6, 7}),
    ("not-ancestor=oak", {0}),
    ("ancestor=elm", {3, 4}),
    ("ancestor-exe=/f/elm", {3, 4}),
    ("name=oak", {1, 2, 5, 6, 7}),
    ("user=7", {3, 4}),
    ("failed", {4, 6}),
    ("ancestor=oak failed", {4, 6}),
])  # fmt: skip
def test_a_filter_wants_what_it_says_and_nothing_else(
    judged: Callable[..., Any], terms: str, wanted: set[int]
) -> None:
    told = _all_told()
    chosen = [record for number, record in enumerate(told) if number in wanted]
    for row in judged(chosen, terms=terms).rows.values():
        assert (row.wrong, row.absent) == (0, 0), row
    unwanted = judged(told, terms=terms).rows
    kinds = ("forks", "execs", "exits")
    assert sum(unwanted[kind].wrong for kind in kinds) == len(told) - len(wanted)
    for number in wanted:
        less = [record for record in chosen if record is not told[number]]
        assert sum(judged(less, terms=terms).rows[kind].absent for kind in kinds) == 1


def test_what_a_source_marks_as_inherited_is_doubted_where_it_may_not_know(
    judged: Callable[..., Any],
) -> None:
    told = _all_told()
    told[3]["process"]["name"] = "oak"
    told[3]["proctree"]["inherited"] = True
    assert judged(told, "proc-connector").rows["names"].doubted == 1
    assert judged(told, "bpf").rows["names"].wrong == 1


def test_an_observed_creator_is_doubted(judged: Callable[..., Any]) -> None:
    told = _all_told()
    told[5]["proctree"]["creator"] = {"pid": _ROOT, "observed": True}
    row = judged(told).rows["creators"]
    assert (row.wrong, row.doubted) == (0, 1)


def test_a_wrong_yes_and_a_wrong_no_are_counted_apart(lib: Any) -> None:
    answers = lib("tally").Answers("questions")
    for answer, truth in [("yes", True), ("no", False), ("yes", False), ("no", True)]:
        answers.add(answer, truth=truth, example="x")
    answers.add("unknown", truth=True)
    counts = answers.as_dict()
    assert counts.pop("examples") == ["yes: x", "no: x"]
    assert counts == {
        "asked": 5, "right_yes": 1, "right_no": 1, "wrong_yes": 1, "wrong_no": 1, "unknown": 1,
    }  # fmt: skip


def test_a_loss_that_is_larger_than_what_was_told_is_silent(lib: Any) -> None:
    gap = {"kind": "exec", "events": 2}
    told = lib("told").Told([], [lib("told").Lost(**gap)])
    found = {}
    for missing in (2, 3):
        of = {"fork": 0, "exec": missing, "exit": 0}
        found[missing] = [one.kind for one in lib("losses").losses(told, of, {}) if one.is_silent]
    assert found == {2: [], 3: ["exec"]}


@pytest.mark.parametrize(("told", "wrong"), [
    ({7: 50_000_000}, 0),
    ({}, 1),
    ({7: 60_000_000}, 2),
    ({7: 50_000_000, 8: 50_000_000}, 1),
    ({7: 50_000_000, 9: 50_000_000}, 0),
])  # fmt: skip
def test_who_is_told_to_live_is_compared_with_two_looks_at_proc(
    lib: Any, told: dict[int, int], wrong: int
) -> None:
    found = lib("living").differences({7: 5, 9: 5}, told, {7: 5})
    assert len(found) == wrong


def test_a_forest_that_is_not_whole_is_not_judged_by(lib: Any) -> None:
    lines = _TRUTH.decode().splitlines()
    with pytest.raises(RuntimeError, match="nobody waited for 101"):
        lib("truth").Truth("\n".join(lines[:-1]).encode(), 900)


def _put(record: dict[str, Any], where: str, value: Any) -> None:
    *way, last = where.split(".")
    at = record
    for name in way:
        at = at[name]
    at[last] = value


def test_only_a_connector_may_tell_an_end_late(judged: Callable[..., Any]) -> None:
    told = _all_told()
    told[4]["@timestamp"] = _stamp(1750)
    assert judged(told).rows["times"].wrong == 1
    assert judged(told, "proc-connector").rows["times"].wrong == 0


def test_a_walker_may_know_a_former_user_and_a_later_parent(judged: Callable[..., Any]) -> None:
    told = _all_told()
    told[4]["process"]["user"]["id"] = "0"
    told[5]["process"]["parent"]["pid"] = _MAKER
    rows = judged(told, "proc-walker").rows
    assert rows["users"].wrong == rows["parents"].wrong == 0
    rows = judged(told).rows
    assert (rows["users"].wrong, rows["parents"].wrong) == (1, 1)
