"""Recordings as a user makes and replays them, whole and broken."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from proctree_bpf.codecs.recording import FrameKind, decode_recording, encode_frame, encode_header
from support.program import AS_NOBODY, Result, actions, in_own_mounts, of_process, run, tracing
from support.refused_sources import ALL_AS_JSON, NO_ATTACH, NO_BPF_CAPS, Child, said, traced
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.kernel


class Recorded(NamedTuple):
    """A recording, and the records of the run that made it."""

    path: Path
    live: list[dict[str, Any]]
    child: Child


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    """One recording of each live source."""
    found = {}
    for source in ("bpf", "proc-connector", "proc-walker"):
        path = tmp_path_factory.mktemp(source) / "recording"
        result, child = traced("--source", source, "--record", str(path))
        assert result.code == 0, result.err
        found[source] = Recorded(path, result.records(), child)
    return found


every_source = pytest.mark.parametrize("source", ["bpf", "proc-connector", "proc-walker"])


def without_source(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**record, "proctree": {k: v for k, v in record["proctree"].items() if k != "source"}}
        for record in records
    ]


def replay(path: Path, *options: str, before: Sequence[str] = ()) -> Result:
    """Replay a recording."""
    return run("trace", *ALL_AS_JSON, "--source", f"replay:{path}", *options, before=before)


class TestReplay:
    @every_source
    def test_it_is_the_live_run_again(self, recorded: dict[str, Recorded], source: str) -> None:
        path, live, child = recorded[source]
        result = replay(path)
        assert result.code == 0, result.err
        records = result.records()
        assert {record["proctree"]["source"] for record in records} == {"replay"}
        assert actions(of_process(records, child.pid)) == ["fork", "exec", "exit"]
        assert without_source(records) == without_source(live)

    @every_source
    def test_it_tells_what_the_recorded_source_could_not_know(
        self, recorded: dict[str, Recorded], source: str
    ) -> None:
        err = replay(recorded[source].path).err
        assert ("cannot know" in err) == (source != "bpf")

    def test_a_plain_user_may_replay(self, recorded: dict[str, Recorded]) -> None:
        path, live, _ = recorded["bpf"]
        result = replay(path, before=AS_NOBODY)
        assert result.code == 0, result.err
        assert len(result.records()) == len(live)

    @every_source
    def test_a_recording_of_another_machine_keeps_its_times_and_identities(
        self, recorded: dict[str, Recorded], source: str, tmp_path: Path
    ) -> None:
        """As a bug report would bring it."""
        year_ns = 365 * 86_400 * 1_000_000_000
        data = recorded[source].path.read_bytes()
        header = dict(decode_recording(data).frames[0].content)
        rest = data[len(encode_header(header)) :]
        assert encode_header(header) + rest == data
        header |= {"boot_id": "0" * 8 + "-aaaa", "host": "elsewhere", "machine": "riscv64"}
        header["wall_offset_ns"] -= year_ns
        foreign = tmp_path / "foreign"
        foreign.write_bytes(encode_header(header) + rest)
        records = replay(foreign).records()
        years = {record["@timestamp"][:4] for record in recorded[source].live}
        assert {record["@timestamp"][:4] for record in records} == {
            str(int(year) - 1) for year in years
        }
        ids = [record["process"]["entity_id"] or "" for record in records]
        assert {one.partition("-")[0] for one in ids if one} == {"00000000aaaa"}

    def test_a_recording_made_where_bpf_was_refused_is_of_what_was_used(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "recording"
        result, _ = traced("--record", str(path), before=NO_BPF_CAPS)
        assert decode_recording(path.read_bytes()).frames[0].content["source"] == "proc-connector"
        assert without_source(replay(path).records()) == without_source(result.records())

    def test_a_recording_made_where_bpf_was_refused_late_is_of_what_was_used(
        self, tmp_path: Path
    ) -> None:
        """The programs loaded, and only then could they not be attached."""
        path = tmp_path / "recording"
        result, _ = traced("--record", str(path), before=NO_ATTACH)
        again = replay(path)
        assert again.code == 0, again.err
        assert without_source(again.records()) == without_source(result.records())

    def test_a_table_can_be_had_of_a_recording(self, recorded: dict[str, Recorded]) -> None:
        path, _, child = recorded["bpf"]
        result = run("trace", "--source", f"replay:{path}")
        assert result.code == 0
        assert f" {child.pid} " in result.out

    def test_a_recording_names_where_it_was_made(self, recorded: dict[str, Recorded]) -> None:
        header = decode_recording(recorded["bpf"].path.read_bytes()).frames[0].content
        assert header["host"] == platform.node()
        assert header["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert {"kernel", "wall_offset_ns", "boottime_ns", "offsets"} <= header.keys()


class TestBadRecordings:
    """One sentence, exit 65, and nothing on stdout."""

    def refused(self, path: Path | str, *options: str) -> str:
        for form in ((), ("-f", "jsonl"), ("-f", "chain")):
            result = run("trace", "--source", f"replay:{path}", *form, *options)
            assert result.code == 65, result.err
            assert result.out == ""
            sentence = result.sentence()
        return sentence

    @pytest.fixture
    def whole(self, recorded: dict[str, Recorded]) -> bytes:
        return recorded["proc-walker"].path.read_bytes()

    @pytest.mark.parametrize("part", [1, 8, 9, 100])
    def test_cut_short_before_anything_was_recorded(
        self, whole: bytes, tmp_path: Path, part: int
    ) -> None:
        (tmp_path / "cut").write_bytes(whole[:part])
        self.refused(tmp_path / "cut")

    @pytest.mark.parametrize("part", [0.5, 0.99, -1])
    def test_cut_short_later_it_is_replayed_up_to_the_cut_and_says_so(
        self, whole: bytes, tmp_path: Path, part: float
    ) -> None:
        end = int(part * len(whole)) if isinstance(part, float) else part
        (tmp_path / "whole").write_bytes(whole)
        (tmp_path / "cut").write_bytes(whole[:end])
        result = run("trace", "-f", "jsonl", "--source", f"replay:{tmp_path / 'cut'}")
        assert result.code == 0
        assert "is cut short at byte" in result.err.splitlines()[0]
        everything = run("trace", "-f", "jsonl", "--source", f"replay:{tmp_path / 'whole'}")
        records = result.records()
        assert records == everything.records()[: len(records)]

    @pytest.mark.parametrize("number", [2**64 - 1, 2**40])
    def test_a_process_that_began_at_an_impossible_time(self, tmp_path: Path, number: int) -> None:
        info = {"cmd": "a", "user": "b", "ppid": 1, "tgid": 7}
        part = {"begun_ns": 1, "ended_ns": 2, "last": True}
        part["readings"] = [[[7, "a", "S", 1, 2, 1, number], info]]
        (tmp_path / "future").write_bytes(
            encode_header({"source": "proc-walker"})
            + encode_frame(FrameKind.SNAPSHOT, json.dumps(part).encode())
            + encode_frame(FrameKind.END, b"")
        )
        assert "impossible time" in self.refused(tmp_path / "future")

    @pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.999])
    def test_damaged(self, whole: bytes, tmp_path: Path, at: float) -> None:
        damaged = bytearray(whole)
        damaged[int(at * len(whole))] ^= 0x10
        (tmp_path / "damaged").write_bytes(damaged)
        self.refused(tmp_path / "damaged")

    @pytest.mark.parametrize(
        "content", [b"", b"\n", b'{"a": 1}\n', b"\x7fELF" + bytes(500), bytes(10_000)]
    )
    def test_foreign(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "foreign").write_bytes(content)
        assert "not a recording" in self.refused(tmp_path / "foreign")

    def test_of_another_version(self, whole: bytes, tmp_path: Path) -> None:
        header = encode_frame(FrameKind.HEADER, b'{"format":99,"source":"bpf"}')
        rest = whole[len(encode_header(decode_recording(whole).frames[0].content)) :]
        (tmp_path / "newer").write_bytes(whole[:8] + header + rest)
        assert "version" in self.refused(tmp_path / "newer")

    def test_of_an_unknown_source(self, tmp_path: Path) -> None:
        (tmp_path / "unknown").write_bytes(
            encode_header({"source": "dtrace"}) + encode_frame(FrameKind.END, b"")
        )
        assert "dtrace" in self.refused(tmp_path / "unknown")

    def test_a_directory(self, tmp_path: Path) -> None:
        assert str(tmp_path) in self.refused(tmp_path)

    def test_not_there(self, tmp_path: Path) -> None:
        assert "No such file" in self.refused(tmp_path / "missing")

    def test_one_that_a_killed_trace_left(self, tmp_path: Path) -> None:
        path = tmp_path / "killed"
        with tracing("--source", "proc-walker", "--record", str(path)) as trace:
            wait_until("something is recorded", lambda: path.stat().st_size > 8)
            trace.process.kill()
            trace.process.wait()
        result = run("trace", "-f", "jsonl", "--source", f"replay:{path}")
        assert result.code == 0
        assert "cut short" in result.err.splitlines()[0]

    def test_its_output_file_is_left_alone(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.write_text("precious")
        (tmp_path / "foreign").write_bytes(b"foreign")
        self.refused(tmp_path / "foreign", "-o", str(out))
        assert out.read_text() == "precious"


class TestRecordTo:
    @pytest.mark.parametrize("name", ["", "missing/recording"])
    def test_what_cannot_be_written_is_refused_first(self, tmp_path: Path, name: str) -> None:
        result = run("trace", "-d", "0", "--record", str(tmp_path / name))
        assert (result.code, result.out) == (2, "")
        assert "--record" in result.sentence()

    @every_source
    def test_a_full_disk_ends_the_trace(self, source: str) -> None:
        result = run("trace", "-d", "1", "-f", "jsonl", "--source", source, "--record", "/dev/full")
        assert result.code == 70, result.err
        assert "disk is full" in said(result)[-1]

    def test_a_disk_that_fills_up_ends_the_trace(self, tmp_path: Path) -> None:
        small = in_own_mounts(f"mount -t tmpfs -o size=128k none '{tmp_path}'")
        result = run(
            "trace", "-d", "20", "-f", "jsonl", "--source", "proc-walker", "--walk-interval",
            "10", "--record", str(tmp_path / "recording"), before=small,
        )  # fmt: skip
        assert result.code == 70, result.err
        assert "disk is full" in said(result)[-1]
