"""JSON lines: what each record holds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from proctree_bpf import Gap, Rename
from support.json_page import WALL_NS, Page
from support.made_up_processes import SECOND_NS

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def _shape(value: Any) -> Any:
    """Return the types of a record: the names of objects, and of what is in lists."""
    if isinstance(value, dict):
        return {name: _shape(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value)


_EVENT = {"kind": str, "category": [str], "type": [str], "action": str}
_REFERENCE = {"pid": int, "entity_id": str, "name": str}
_PROCESS = {
    "pid": int,
    "entity_id": str,
    "name": str,
    "executable": str,
    "args": [str],
    "command_line": str,
    "start": str,
    "user": {"id": str, "name": str},
    "parent": _REFERENCE,
}
_PROCTREE = {
    "source": str,
    "start_time_ns": int,
    "inherited": bool,
    "truncated": bool,
    "chain": [{"pid": int, "entity_id": str, "name": str, "user": str}],
}


class TestFields:
    @pytest.fixture
    def story(self, page: Page) -> dict[str, dict[str, Any]]:
        """Return a record of each kind about one process."""
        scene = page.scene
        scene.fork(10, comm="make", uid=1000)
        return {
            "fork": page.write(scene.fork(20, by=10, comm="make", uid=1000)),
            "exec": page.write(
                scene.exec(20, "cc", "-c", "a b.c", comm="cc", uid=1000, executable="/usr/bin/cc")
            ),
            "exit": page.write(scene.exit(20, 1 << 8)),
        }

    def test_an_exec_has_every_field_with_its_type(self, story: dict[str, Any]) -> None:
        assert _shape(story["exec"]) == {
            "@timestamp": str, "event": _EVENT, "process": _PROCESS, "proctree": _PROCTREE
        }  # fmt: skip

    def test_a_fork_adds_who_called_it(self, story: dict[str, Any]) -> None:
        assert _shape(story["fork"]["proctree"]) == _PROCTREE | {"creator": _REFERENCE}
        assert story["fork"]["process"]["pid"] == 20
        assert story["fork"]["proctree"]["creator"]["pid"] == 10
        assert story["fork"]["proctree"]["creator"]["name"] == "make"

    def test_an_exit_adds_how_and_when_it_ended(self, story: dict[str, Any]) -> None:
        assert _shape(story["exit"]["process"]) == _PROCESS | {"end": str, "exit_code": int}
        assert _shape(story["exit"]["proctree"]) == _PROCTREE | {
            "exit_signal": type(None), "core_dumped": bool
        }  # fmt: skip
        assert story["exit"]["process"]["end"] == story["exit"]["@timestamp"]

    def test_an_exit_repeats_what_was_last_known(self, story: dict[str, Any]) -> None:
        for name in _PROCESS:
            assert story["exit"]["process"][name] == story["exec"]["process"][name]
        assert story["exit"]["process"]["name"] == "cc"
        assert story["exit"]["process"]["args"] == ["cc", "-c", "a b.c"]
        assert story["exit"]["process"]["executable"] == "/usr/bin/cc"
        assert story["exit"]["process"]["user"] == {"id": "1000", "name": "ada"}

    def test_the_command_line_can_be_given_to_a_shell(self, story: dict[str, Any]) -> None:
        assert story["exec"]["process"]["command_line"] == "cc -c 'a b.c'"

    @pytest.mark.parametrize(
        ("action", "type_"), [("fork", "start"), ("exec", "start"), ("exit", "end")]
    )
    def test_the_event_is_named_as_ecs_does(
        self, story: dict[str, Any], action: str, type_: str
    ) -> None:
        assert story[action]["event"] == {
            "kind": "event", "category": ["process"], "type": [type_], "action": action
        }  # fmt: skip

    def test_times_are_utc_with_nanoseconds(self, page: Page, story: dict[str, Any]) -> None:
        for record in story.values():
            assert _MOMENT.fullmatch(record["@timestamp"])
            assert _MOMENT.fullmatch(record["process"]["start"])
        assert story["fork"]["@timestamp"] == story["exit"]["process"]["start"]
        nanoseconds = (WALL_NS + page.scene.key(20).start_time_ns) % SECOND_NS
        assert story["fork"]["@timestamp"].endswith(f".{nanoseconds:09d}Z")

    def test_the_chain_has_the_parent_first_and_the_root_last(self, story: dict[str, Any]) -> None:
        chain = story["exit"]["proctree"]["chain"]
        assert [(link["pid"], link["name"], link["user"]) for link in chain] == [
            (10, "make", "ada"),
            (1, "init", "root"),
        ]

    def test_the_inherited_flag_goes_with_the_exec(self, story: dict[str, Any]) -> None:
        flags = {action: record["proctree"]["inherited"] for action, record in story.items()}
        assert flags == {"fork": True, "exec": False, "exit": False}

    def test_nothing_is_escaped_or_uncertain_without_need(self, story: dict[str, Any]) -> None:
        for record in story.values():
            assert not {"escaped", "uncertain"} & set(record["proctree"])


class TestWhatIsNotKnown:
    def test_the_root_has_no_parent_and_no_chain(self, page: Page) -> None:
        record = page.write(page.scene.exec(1, "init", comm="init"))
        assert record["process"]["parent"] is None
        assert record["proctree"]["chain"] == []

    def test_a_process_without_arguments_is_not_one_with_unknown_arguments(
        self, page: Page
    ) -> None:
        page.scene.fork(20)
        empty = page.write(page.scene.exec(20, args_raw=b""))
        unknown = page.write(page.scene.exec(20, args_raw=None))
        assert (empty["process"]["args"], empty["process"]["command_line"]) == ([], "")
        assert (unknown["process"]["args"], unknown["process"]["command_line"]) == (None, None)

    def test_an_unseen_creator_has_an_identity_and_no_name(self, page: Page) -> None:
        page.scene.set_key(77, page.scene.key(1)._replace(pid=77))
        record = page.write(page.scene.fork(20, by=77))
        assert record["process"]["parent"]["pid"] == 77
        assert record["process"]["parent"]["name"] is None
        (link,) = record["proctree"]["chain"]
        assert (link["pid"], link["name"], link["user"]) == (77, None, None)

    def test_an_end_of_unknown_reason_has_neither_code_nor_signal(self, page: Page) -> None:
        page.scene.fork(20)
        record = page.write(page.scene.exit(20, None))
        assert record["process"]["exit_code"] is None
        assert record["proctree"]["exit_signal"] is None
        assert record["proctree"]["core_dumped"] is False

    def test_a_record_written_while_events_are_missing_says_so(self, page: Page) -> None:
        page.scene.tracker.uncertain = True
        assert page.write(page.scene.fork(20))["proctree"]["uncertain"] is True


def test_a_signal_and_a_core_dump_take_the_place_of_the_code(page: Page) -> None:
    page.scene.fork(20)
    record = page.write(page.scene.exit(20, 11 | 0x80))
    assert record["process"]["exit_code"] is None
    assert record["proctree"]["exit_signal"] == 11
    assert record["proctree"]["core_dumped"] is True


def test_parent_is_the_kernels_and_creator_the_callers(page: Page) -> None:
    page.scene.fork(10, comm="service")
    page.scene.fork(11, by=10, comm="helper")
    record = page.write(page.scene.fork(20, by=11, parent=page.scene.key(10)))
    assert record["process"]["parent"]["pid"] == 10
    assert record["proctree"]["creator"]["pid"] == 11
    assert [link["pid"] for link in record["proctree"]["chain"]] == [11, 10, 1]


def test_a_rename_is_a_change(page: Page) -> None:
    page.scene.fork(20, comm="old")
    renamed = page.scene.tracker.apply(Rename(page.scene.now_ns + 1, page.scene.key(20), "new"))
    assert renamed is not None
    record = page.write(renamed)
    assert (record["event"]["action"], record["event"]["type"]) == ("rename", ["change"])
    assert record["process"]["name"] == "new"


@pytest.mark.parametrize("source", ["bpf", "proc-connector", "proc-walker", "replay"])
def test_the_source_is_named(source: str) -> None:
    page = Page(source)
    assert page.write(page.scene.fork(20))["proctree"]["source"] == source


class TestEntityId:
    def test_it_is_the_same_from_nanoseconds_and_from_ticks(self, page: Page) -> None:
        page.scene.fork(20)
        exact = page.scene.key(20)
        from_proc = Page()
        from_proc.scene.set_key(20, exact._replace(start_time_ns=exact.ticks * 10_000_000))
        ids = [
            page.write(page.scene.exec(20, "x"))["process"]["entity_id"],
            from_proc.write(from_proc.scene.exec(20, "x"))["process"]["entity_id"],
        ]
        assert ids[0] == ids[1]

    def test_it_is_another_for_a_reused_pid(self, page: Page) -> None:
        first = page.write(page.scene.fork(20))["process"]["entity_id"]
        page.scene.exit(20, after_ns=SECOND_NS)
        assert page.write(page.scene.fork(20))["process"]["entity_id"] != first

    def test_it_is_the_one_that_children_refer_to(self, page: Page) -> None:
        parent = page.write(page.scene.fork(20))["process"]["entity_id"]
        child = page.write(page.scene.fork(30, by=20))
        assert child["process"]["parent"]["entity_id"] == parent
        assert child["proctree"]["creator"]["entity_id"] == parent


class TestGap:
    def test_it_says_how_much_of_what_where_and_when(self, page: Page) -> None:
        record = page.gap(
            Gap(3 * SECOND_NS, "bpf", 12, "exec", 3, from_ns=1 * SECOND_NS, until_ns=2 * SECOND_NS)
        )
        assert record == {
            "@timestamp": "2026-01-02T03:04:08.000000000Z",
            "event": {
                "kind": "event", "category": ["process"], "type": ["info"], "action": "gap"
            },
            "proctree": {
                "source": "bpf",
                "gap": {
                    "count": 12, "kind": "exec", "cpu": 3,
                    "from": "2026-01-02T03:04:06.000000000Z",
                    "until": "2026-01-02T03:04:07.000000000Z",
                },
            },
        }  # fmt: skip

    def test_what_is_not_known_is_null(self, page: Page) -> None:
        gap = page.gap(Gap(SECOND_NS, "proc-connector", None, until_ns=SECOND_NS))["proctree"][
            "gap"
        ]
        assert [gap[name] for name in ("count", "kind", "cpu", "from")] == [None] * 4
