"""The questions about /proc, asked by a user without privileges; the truth is a family we made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proctree_bpf import parse_chain_string, unescape
from support.living_family import Family, living_family
from support.program import AS_NOBODY, NOBODY, PYTHON_ENTRY, Result, run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    with living_family(tmp_path_factory.mktemp("family")) as members:
        yield members


@pytest.fixture(scope="module")
def gone() -> int:
    """Return a PID that nobody has."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def ask(*args: str | int | bytes) -> Result:
    """Run a query as nobody."""
    words = [word if isinstance(word, bytes) else str(word) for word in args]
    return run(*words, before=AS_NOBODY)


def lines(*args: str | int) -> list[str]:
    result = ask(*args)
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()


def data(*args: str | int) -> Any:
    result = ask(*args, "--format", "json")
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def pids(*args: str | int) -> list[int]:
    return [int(line.split()[0]) for line in lines(*args)]


def ancestors(pid: int) -> list[int]:
    """Return a PID and its ancestors as the kernel tells them."""
    found = []
    while pid:
        found.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return found


def test_tree_draws_the_family_below_its_root(family: Family) -> None:
    first, *below = lines("tree", family.root)
    assert first == f"{family.name}({family.root})"
    kid, other, grandkid = (
        f"{family.name}({pid})" for pid in (family.kid, family.other, family.grandkid)
    )
    # Who of the two children is the elder is the scheduler's choice.
    assert below in (
        [f"├─ {kid}", f"└─ {other}", f"   └─ {grandkid}"],
        [f"├─ {other}", f"│  └─ {grandkid}", f"└─ {kid}"],
    )


def test_tree_of_a_leaf_is_one_line(family: Family) -> None:
    assert lines("tree", family.kid) == [f"{family.name}({family.kid})"]


def test_tree_without_a_pid_draws_everybody(family: Family) -> None:
    text = "\n".join(lines("tree"))
    drawn = {int(pid) for pid in re.findall(r"\((\d+)\)$", text, re.MULTILINE)}
    assert family.pids | set(ancestors(os.getpid())) <= drawn


def test_tree_as_json_has_a_record_for_each_member(family: Family) -> None:
    records = {record["pid"]: record for record in data("tree", family.root)}
    assert set(records) == family.pids
    assert {pid: record["ppid"] for pid, record in records.items()} == {
        family.root: os.getpid(),
        family.kid: family.root,
        family.other: family.root,
        family.grandkid: family.other,
    }


def test_a_record_says_what_proc_says(family: Family) -> None:
    (record,) = data("tree", family.kid)
    directory = Path(f"/proc/{family.kid}")
    args = directory.joinpath("cmdline").read_bytes().split(b"\0")[:-1]
    ticks = directory.joinpath("stat").read_bytes().rpartition(b")")[2].split()[19]
    assert record["name"] == family.name
    assert [unescape(arg).encode() for arg in record["args"]] == args
    assert record["user"] == directory.owner()
    assert record["start_time_ns"] == int(ticks) * 10_000_000
    assert record["entity_id"].endswith(f"-{family.kid}-{int(ticks)}")


def test_chain_is_the_kernels_line_of_parents(family: Family) -> None:
    (line,) = lines("chain", family.grandkid)
    links = parse_chain_string(line)
    assert [link.pid for link in links] == ancestors(family.grandkid)
    assert links[0].cmd == family.name
    assert links[0].user == Path(f"/proc/{family.grandkid}").owner()


def test_chain_as_json_has_the_same_links(family: Family) -> None:
    assert [record["pid"] for record in data("chain", family.grandkid)] == ancestors(
        family.grandkid
    )


def test_children_are_listed_with_user_and_command(family: Family) -> None:
    assert set(pids("children", family.root)) == {family.kid, family.other}
    (line,) = (line for line in lines("children", family.root) if f"{family.kid} " in line)
    assert "echo kid $$" in line
    assert Path(f"/proc/{family.kid}").owner() in line.split()


def test_children_of_a_leaf_are_none(family: Family) -> None:
    assert lines("children", family.kid) == []
    assert data("children", family.kid) == []


def test_descendants_come_nearest_first(family: Family) -> None:
    found = pids("descendants", family.root)
    assert set(found[:2]) == {family.kid, family.other}
    assert found[2:] == [family.grandkid]
    assert [record["pid"] for record in data("descendants", family.root)] == found


def test_siblings_leave_out_the_one_asked_for(family: Family) -> None:
    assert pids("siblings", family.kid) == [family.other]
    assert [record["pid"] for record in data("siblings", family.other)] == [family.kid]


def test_find_by_name_finds_exactly_the_family(family: Family) -> None:
    assert pids("find", "--cmd", family.name) == sorted(family.pids)
    assert [record["pid"] for record in data("find", "--cmd", family.name)] == sorted(family.pids)


def test_find_matches_whole_names_only(family: Family) -> None:
    assert ask("find", "--cmd", family.name[:-1]).code == 1


def test_find_by_user_and_name_needs_both_to_match(family: Family) -> None:
    owner = Path(f"/proc/{family.root}").owner()
    assert pids("find", "--cmd", family.name, "--user", owner) == sorted(family.pids)
    assert ask("find", "--cmd", family.name, "--user", "no-such-user").code == 1


@pytest.mark.kernel
def test_find_by_user_takes_a_uid_that_has_no_name() -> None:
    with subprocess.Popen(["sleep", "60"], user=3_000_000_123) as process:
        try:
            assert pids("find", "--user", "3000000123") == [process.pid]
        finally:
            process.kill()


def test_nothing_found_is_exit_status_1_and_a_sentence() -> None:
    result = ask("find", "--cmd", "no-such-name", "--user", "no-such-user")
    assert (result.code, result.out) == (1, "")
    assert "no-such-name" in result.sentence()
    assert "no-such-user" in result.sentence()


def test_nothing_found_as_json_is_an_empty_list() -> None:
    result = ask("find", "--cmd", "no-such-name", "-f", "json")
    assert (result.code, json.loads(result.out)) == (1, [])


def test_is_descendant_says_yes_through_generations(family: Family) -> None:
    own_name = Path("/proc/self/comm").read_text().rstrip("\n")
    assert own_name != family.name
    assert lines("is-descendant", family.grandkid, own_name) == ["yes"]


def test_is_descendant_counts_the_process_itself(family: Family) -> None:
    assert lines("is-descendant", family.root, family.name) == ["yes"]


def test_is_descendant_says_no_with_exit_status_1(family: Family) -> None:
    result = ask("is-descendant", family.grandkid, "no-such-name")
    assert (result.code, result.out, result.err) == (1, "no\n", "")


def test_is_descendant_answers_as_json_with_the_same_exit_status(family: Family) -> None:
    assert data("is-descendant", family.kid, family.name) == {
        "pid": family.kid,
        "name": family.name,
        "is_descendant": True,
    }
    result = ask("is-descendant", family.kid, "no-such-name", "-f", "json")
    assert (result.code, json.loads(result.out)["is_descendant"]) == (1, False)


@pytest.fixture(scope="module")
def long_named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """A family with a name of which the kernel keeps 15 bytes."""
    directory = tmp_path_factory.mktemp("long")
    with living_family(directory, "prt-a-name-longer-than-15") as members:
        assert Path(f"/proc/{members.kid}/comm").read_text() == "prt-a-name-long\n"
        yield members


def test_a_name_longer_than_the_kernel_keeps_is_found_by_what_it_keeps(long_named: Family) -> None:
    assert set(pids("find", "--cmd", long_named.name)) == long_named.pids
    assert set(pids("find", "--cmd", long_named.name[:15])) == long_named.pids
    assert lines("is-descendant", long_named.kid, long_named.name) == ["yes"]
    assert lines("is-descendant", long_named.kid, long_named.name[:15]) == ["yes"]
    assert ask("is-descendant", long_named.kid, long_named.name[:14]).out == "no\n"


def test_a_kernel_thread_is_found_by_the_whole_name_that_proc_shows_and_by_the_kernels() -> None:
    shown: dict[str, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        pid, _, rest = stat.read_text(errors="surrogateescape").partition(" (")
        name, _, numbers = rest.rpartition(") ")
        # A worker's name changes with what it does.
        if len(name) > 15 and int(numbers.split()[6]) & 0x200000 and "kworker" not in name:
            shown[name] = int(pid)
    if not shown:
        pytest.skip("no kernel thread here has a longer name")
    for name, pid in list(shown.items())[:3]:
        assert pid in pids("find", "--cmd", name)
        assert pid in pids("find", "--cmd", name[:15])


@pytest.mark.parametrize(
    "query", ["tree", "chain", "children", "descendants", "siblings", "is-descendant"]
)
def test_an_unknown_pid_is_exit_status_1_and_a_sentence(query: str, gone: int) -> None:
    result = ask(query, gone, *(["sh"] if query == "is-descendant" else []))
    assert (result.code, result.out) == (1, "")
    assert str(gone) in result.sentence()


def test_the_highest_pid_a_kernel_can_give_is_merely_unknown() -> None:
    assert ask("chain", 4_194_304).code == 1


def test_a_thread_is_no_process() -> None:
    found: list[int] = []
    release = threading.Event()

    def thread() -> None:
        found.append(threading.get_native_id())
        ready.set()
        release.wait()

    ready = threading.Event()
    worker = threading.Thread(target=thread)
    worker.start()
    ready.wait()
    try:
        assert Path(f"/proc/{found[0]}/stat").exists()
        assert ask("chain", found[0]).code == 1
    finally:
        release.set()
        worker.join()


HOSTILE = os.fsdecode(b"\x1b[2J|;\\\n\xff\xe2\x80\xae")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    with living_family(tmp_path_factory.mktemp("hostile"), HOSTILE) as members:
        yield members


class TestHostileNames:
    """A process chooses its name and arguments; here is what it cannot do with them."""

    @pytest.mark.parametrize("query", ["tree", "chain", "children", "descendants", "siblings"])
    def test_text_has_nothing_that_drives_a_terminal(self, hostile: Family, query: str) -> None:
        result = ask(query, hostile.other)
        assert result.code == 0
        assert result.out.replace("\n", "").isprintable()

    def test_a_newline_in_a_name_makes_no_line(self, hostile: Family) -> None:
        assert len(lines("descendants", hostile.root)) == 3

    def test_a_chain_parses_back_to_the_very_name(self, hostile: Family) -> None:
        (line,) = lines("chain", hostile.grandkid)
        links = parse_chain_string(line)
        assert [link.pid for link in links] == ancestors(hostile.grandkid)
        assert [link.cmd for link in links[:3]] == [HOSTILE] * 3

    def test_json_gives_the_name_back_through_unescape(self, hostile: Family) -> None:
        (record,) = data("siblings", hostile.kid)
        assert unescape(record["name"]) == HOSTILE

    def test_find_takes_the_raw_bytes_of_a_name(self, hostile: Family) -> None:
        result = ask("find", "--cmd", os.fsencode(HOSTILE), "--format", "json")
        assert {record["pid"] for record in json.loads(result.out)} == hostile.pids

    def test_a_sentence_repeats_a_name_harmlessly(self) -> None:
        result = ask("find", "--cmd", b"\x1b[31m\xff\nx")
        assert result.code == 1
        assert r"\x1b[31m\xff\x0ax" in result.sentence()


def test_a_locale_without_utf8_still_gets_an_answer(family: Family) -> None:
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = run("tree", str(family.root), before=AS_NOBODY, env=env, program=PYTHON_ENTRY)
    assert (result.code, result.err) == (0, "")
    assert result.out.isascii()


@pytest.mark.kernel
def test_the_snapshot_is_taken_without_any_privilege(family: Family) -> None:
    status = subprocess.run(
        [*AS_NOBODY, "cat", "/proc/self/status"], check=True, text=True, capture_output=True
    )
    assert f"Uid:\t{NOBODY}\t{NOBODY}" in status.stdout
    assert ask("children", family.root).code == 0
