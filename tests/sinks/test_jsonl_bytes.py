"""JSON lines: any bytes survive, and a line is its record as json encodes it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf import Exec, Exit, Fork, ProcessKey, Rename, unescape
from proctree_bpf.core.events import Setid
from support.hostile_names import arguments, comms, unhurried
from support.json_page import Page


class TestBytes:
    @unhurried
    @given(comm=comms(), args=arguments(), path=comms(), ancestor=comms())
    def test_any_names_and_arguments_come_back(
        self, comm: str, args: list[str], path: str, ancestor: str
    ) -> None:
        page = Page()
        page.scene.fork(10, comm=ancestor)
        page.scene.fork(20, by=10)
        process_event = page.scene.exec(20, *args, comm=comm, executable=path)
        record = page.write(process_event)
        read = unescape if record["proctree"].get("escaped") else str
        assert read(record["process"]["name"]) == process_event.info.cmd
        assert read(record["process"]["executable"]) == path
        assert [read(arg) for arg in record["process"]["args"]] == args
        assert read(record["proctree"]["chain"][0]["name"]) == ancestor
        assert read(record["process"]["parent"]["name"]) == ancestor

    def test_text_is_escaped_only_where_bytes_are_no_text(self, page: Page) -> None:
        page.scene.fork(20)
        plain = page.write(page.scene.exec(20, "a\\b", "\x1b\n", "\u6f22\U0001f980"))
        raw = page.write(page.scene.exec(20, "a\\b", os.fsdecode(b"\xff")))
        assert "escaped" not in plain["proctree"]
        assert plain["process"]["args"] == ["a\\b", "\x1b\n", "\u6f22\U0001f980"]
        assert raw["proctree"]["escaped"] is True
        assert raw["process"]["args"] == [r"a\\b", r"\xff"]

    def test_one_raw_byte_in_an_ancestor_is_enough(self, page: Page) -> None:
        page.scene.fork(10, comm=os.fsdecode(b"\xff"))
        record = page.write(page.scene.fork(20, by=10, comm="child"))
        assert record["proctree"]["escaped"] is True
        assert record["proctree"]["chain"][0]["name"] == r"\xff"


_STATUSES = st.sampled_from([None, 0, 1 << 8, 255 << 8, 9, 11 | 0x80])
_KINDS = st.sampled_from(["fork", "exec", "rename", "setid", "exit"])


class TestALineIsTheRecordsEncoding:
    """Lines are put together of kept texts; ``json_record`` says what they must be."""

    @unhurried
    @given(
        kinds=st.lists(_KINDS, min_size=1, max_size=6),
        names=st.lists(comms(), min_size=7, max_size=7),
        args=st.none() | arguments(),
        path=st.none() | comms(),
        status=_STATUSES,
        most=st.sampled_from([None, 0, 1, 2]),
        flags=st.lists(st.booleans(), min_size=3, max_size=3),
    )
    def test_whatever_happens_to_a_process(
        self,
        *,
        kinds: list[str],
        names: list[str],
        args: list[str] | None,
        path: str | None,
        status: int | None,
        most: int | None,
        flags: list[bool],
    ) -> None:
        page = Page(max_ancestors=most)
        scene = page.scene
        truncated, adopted, scene.tracker.uncertain = flags
        scene.fork(10, comm=names[0])
        scene.fork(20, by=10, comm=names[1])
        raw = None if args is None else os.fsencode("".join(f"{arg}\0" for arg in args))
        parent = scene.key(1) if adopted else None
        for number, kind in enumerate(kinds):
            name = names[2 + number % 5]
            at = {"timestamp_ns": scene.now_ns + 1 + number, "key": scene.key(20)}
            if kind == "fork":
                page.check(Fork(at["timestamp_ns"], ProcessKey(30 + number, at["timestamp_ns"]),
                                scene.key(20), parent, comm=name))  # fmt: skip
            elif kind == "exec":
                page.check(Exec(**at, parent=parent, comm=name, executable=path, args_raw=raw,
                                truncated=truncated, uid=1000))  # fmt: skip
            elif kind == "rename":
                page.check(Rename(**at, comm=name))
            elif kind == "setid":
                page.check(Setid(**at, uid=number))
            else:
                page.check(Exit(**at, parent=parent, status=status))
            # The creator's name is new, so what was kept of it is old.
            page.check(Rename(at["timestamp_ns"], scene.key(10), names[(3 + number) % 7]))

    @pytest.mark.parametrize(
        "raw", [b"", b"\0", b"a", b"a\0", b"a\0\0b\0", b"\0a\0", b"a b\0", b"a\0b"]
    )
    def test_wherever_its_arguments_end(self, raw: bytes) -> None:
        page = Page()
        page.check(Exec(page.scene.now_ns + 1, page.scene.key(1), comm="x", args_raw=raw))

    def test_where_two_are_said_to_have_created_each_other(self) -> None:
        page = Page()
        a, b, child = ProcessKey(50), ProcessKey(51), ProcessKey(52)
        now_ns = page.scene.now_ns
        page.check(Fork(now_ns + 1, a, b, comm="a"))
        page.check(Fork(now_ns + 2, b, a, comm="b"))
        page.check(Fork(now_ns + 3, child, a, comm="child"))
        for key in (a, b, child, a):
            now_ns += 10
            page.check(Exec(now_ns, key, comm=f"x{key.pid}"))


@unhurried
@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_an_end_before_the_start_of_the_clock_is_no_crash(start_ns: int) -> None:
    page = Page()
    page.scene.set_key(20, page.scene.key(1)._replace(pid=20, start_time_ns=abs(start_ns)))
    assert page.write(page.scene.exec(20, "x"))["process"]["pid"] == 20
