"""The wire format is bpf/proctree.h: the C compiler lays the records out, we read them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proctree_bpf.codecs.sample_decoder import (
    EXEC,
    EXIT,
    FORK,
    HEADER,
    KEY_START,
    KINDS,
    MAX_COPIES,
    MET,
    RENAME,
    WIRE_VERSION,
    PerfRecord,
    decode,
)
from proctree_bpf.core.events import AncestorAnnounced, Exec, Exit, Fork, Rename
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.errors import DecodeError
from proctree_bpf.sources.loading import filter_maps

BPF = Path(__file__).parents[2] / "bpf"
FORK_KIND, EXEC_KIND, EXIT_KIND, RENAME_KIND, MET_KIND = range(
    5
)  # then MET once more for each other program that tells it
TRUNCATED, UNREADABLE, EXE_INCOMPLETE, FILENAME_TRUNCATED = 1, 2, 4, 8

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
comms = st.binary(max_size=15).map(lambda raw: raw.partition(b"\0")[0])
keys = st.builds(ProcessKey, u32, u64)


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def header(kind: int, seq: int = 9, time_ns: int = 1_000, flags: int = 0) -> tuple[int, ...]:
    return (seq, time_ns, WIRE_VERSION, kind, flags, 1)


def exec_record(
    exe: bytes = b"ls\0bin\0usr\0",
    filename: bytes = b"./ls\0",
    args: bytes = b"ls\0-l\0",
    *,
    flags: int = 0,
    comm: bytes = b"ls",
) -> bytes:
    fixed = EXEC.pack(
        *header(EXEC_KIND, flags=flags),
        *(111, 222, 333, 200, 100, 1000, 1001, comm),
        *(len(args), len(exe), len(filename), len(args), 0),
    )
    return fixed + exe + filename + args


FORK_RECORD = FORK.pack(*header(FORK_KIND), 111, 222, 333, 444, 200, 100, 1, 5, 1000, 1001, b"bash")
EXIT_RECORD = EXIT.pack(
    *header(EXIT_KIND), 111, 222, 333, 444, 200, 100, 1000, 1001, 0x8B, 0, b"ls"
)
RENAME_RECORD = RENAME.pack(*header(RENAME_KIND), 111, 200, 0, b"new name")
MET_RECORD = MET.pack(*header(MET_KIND), 111, 222, 0, 200, 100, 1000, 1001, 0, 0, b"bash")
RECORDS = [FORK_RECORD, exec_record(), EXIT_RECORD, RENAME_RECORD, MET_RECORD]
JOINING_RECORD = RENAME.pack(*header(RENAME_KIND), 111, 200, 50, b"new name") + KEY_START.pack(555)
PARENTS_EXIT_RECORD = EXIT.pack(
    *header(EXIT_KIND), 111, 222, 333, 444, 200, 100, 1000, 1001, 0x8B, 50, b"ls"
) + KEY_START.pack(555)


def test_a_fork_is_read() -> None:
    assert decode(FORK_RECORD) == PerfRecord(
        FORK_KIND,
        9,
        Fork(
            timestamp_ns=1_000,
            child=ProcessKey(200, 111),
            creator=ProcessKey(100, 222),
            parent=ProcessKey(1, 333),
            ns_pid=5,
            uid=1000,
            gid=1001,
            cgroup_id=444,
            comm="bash",
        ),
    )


def test_an_exec_is_read() -> None:
    assert decode(exec_record()) == PerfRecord(
        EXEC_KIND,
        9,
        Exec(
            timestamp_ns=1_000,
            key=ProcessKey(200, 111),
            parent=ProcessKey(100, 222),
            uid=1000,
            gid=1001,
            cgroup_id=333,
            comm="ls",
            filename="./ls",
            executable="/usr/bin/ls",
            args_raw=b"ls\0-l\0",
        ),
    )


def test_an_exit_is_read() -> None:
    event = decode(EXIT_RECORD).event
    key, parent = ProcessKey(200, 111), ProcessKey(100, 222)
    assert event == Exit(1_000, key, parent, 0x8B, 1000, 1001, "ls", cpu_ns=444, cgroup_id=333)
    assert isinstance(event, Exit)
    assert (event.signal, event.core_dumped) == (11, True)


def test_the_exit_of_a_parent_tells_who_adopts_its_children() -> None:
    event, alone = decode(PARENTS_EXIT_RECORD).event, decode(EXIT_RECORD).event
    assert isinstance(event, Exit)
    assert isinstance(alone, Exit)
    assert event == replace(alone, reaper=ProcessKey(50, 555))
    assert decode(PARENTS_EXIT_RECORD + b"\xaa" * 4).event == event


@pytest.mark.parametrize("record", [PARENTS_EXIT_RECORD, JOINING_RECORD], ids=["exit", "rename"])
def test_one_that_names_another_process_may_be_cut_at_no_byte(record: bytes) -> None:
    for length in range(len(record)):
        with pytest.raises(DecodeError):
            decode(record[:length])


def test_who_adopts_is_not_known_where_none_is_named() -> None:
    event = decode(EXIT_RECORD + KEY_START.pack(555)).event
    assert isinstance(event, Exit)
    assert event.reaper is None


def test_a_rename_is_read() -> None:
    key = ProcessKey(200, 111)
    assert decode(RENAME_RECORD).event == Rename(1_000, key, "new name")
    assert decode(JOINING_RECORD).event == Rename(1_000, key, "new name", ProcessKey(50, 555))


@pytest.mark.parametrize(("exited_ns", "told"), [(0, None), (999, 999)])
def test_an_ancestor_is_read(exited_ns: int, told: int | None) -> None:
    record = MET_RECORD[:40] + struct.pack("=Q", exited_ns) + MET_RECORD[48:]
    key, creator = ProcessKey(200, 111), ProcessKey(100, 222)
    assert decode(record).event == AncestorAnnounced(1_000, key, creator, "bash", 1000, 1001, told)


@pytest.mark.parametrize("record", RECORDS, ids=KINDS[: len(RECORDS)])
def test_the_padding_of_a_perf_sample_is_ignored(record: bytes) -> None:
    for padding in (b"\0", b"\xff" * 7, b"\xaa" * 64):
        assert decode(record + padding) == decode(record)


@pytest.mark.parametrize("record", RECORDS, ids=KINDS[: len(RECORDS)])
def test_a_record_may_be_cut_at_no_byte(record: bytes) -> None:
    for length in range(len(record)):
        with pytest.raises(DecodeError):
            decode(record[:length])


@pytest.mark.parametrize("version", [0, WIRE_VERSION - 1, WIRE_VERSION + 1, 0xFFFF])
def test_another_version_is_refused(version: int) -> None:
    wrong = FORK_RECORD[:16] + struct.pack("=H", version) + FORK_RECORD[18:]
    with pytest.raises(DecodeError, match=f"version {version}"):
        decode(wrong)


@pytest.mark.parametrize("kind", [len(KINDS) * MAX_COPIES, 0xFFFF])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    wrong = FORK_RECORD[:18] + struct.pack("=H", kind) + FORK_RECORD[20:]
    with pytest.raises(DecodeError, match=f"kind {kind}"):
        decode(wrong)


@pytest.mark.parametrize("copy", range(MAX_COPIES))
def test_each_copy_of_a_program_has_kinds_of_its_own(copy: int) -> None:
    sent_as = EXIT_KIND + copy * len(KINDS)
    record = EXIT_RECORD[:18] + struct.pack("=H", sent_as) + EXIT_RECORD[20:]
    assert decode(record) == decode(EXIT_RECORD)._replace(kind=sent_as)


class TestTheParts:
    @staticmethod
    def read(record: bytes) -> Exec:
        event = decode(record).event
        assert isinstance(event, Exec)
        return event

    def test_a_path_comes_innermost_first(self) -> None:
        assert self.read(exec_record(exe=b"c\0b\0a\0")).executable == "/a/b/c"

    def test_a_path_that_is_not_there_is_unknown(self) -> None:
        assert self.read(exec_record(exe=b"")).executable is None

    def test_a_path_that_is_not_complete_is_unknown(self) -> None:
        assert self.read(exec_record(flags=EXE_INCOMPLETE)).executable is None

    def test_a_file_name_ends_at_its_nul(self) -> None:
        assert self.read(exec_record(filename=b"./ls\0rest\0")).filename == "./ls"

    def test_an_empty_file_name_is_unknown(self) -> None:
        assert self.read(exec_record(filename=b"")).filename is None
        assert self.read(exec_record(filename=b"\0")).filename is None

    def test_no_arguments_are_not_the_same_as_unreadable_ones(self) -> None:
        assert self.read(exec_record(args=b"")).args_raw == b""
        assert self.read(exec_record(args=b"", flags=UNREADABLE)).args_raw is None

    def test_a_cut_argument_block_is_marked(self) -> None:
        assert self.read(exec_record(flags=TRUNCATED)).truncated
        assert not self.read(exec_record(flags=FILENAME_TRUNCATED)).truncated

    def test_a_name_of_full_length_needs_no_nul(self) -> None:
        assert self.read(exec_record(comm=b"0123456789abcdef")).comm == "0123456789abcdef"

    def test_a_name_ends_at_its_nul(self) -> None:
        assert self.read(exec_record(comm=b"ls\0garbage")).comm == "ls"

    @pytest.mark.parametrize("field", ["exe_len", "filename_len", "args_len"])
    def test_a_length_beyond_the_record_is_refused(self, field: str) -> None:
        lengths = {"exe_len": 11, "filename_len": 5, "args_len": 6, field: 60_000}
        fixed = EXEC.pack(
            *header(EXEC_KIND),
            *(111, 222, 333, 200, 100, 1000, 1001, b"ls"),
            *(6, lengths["exe_len"], lengths["filename_len"], lengths["args_len"], 0),
        )
        with pytest.raises(DecodeError, match="its parts need"):
            decode(fixed + b"x" * 22)


class TestEveryValue:
    @given(
        st.builds(Fork, u64, keys, keys, keys, u32, u32, u32, u64, comms.map(text)),
        u64,
    )
    def test_a_fork_survives_the_wire(self, event: Fork, seq: int) -> None:
        assert event.parent is not None
        assert event.comm is not None
        who = (event.child, event.creator, event.parent)
        data = FORK.pack(
            *header(FORK_KIND, seq, event.timestamp_ns),
            *(key.start_time_ns for key in who),
            event.cgroup_id,
            *(key.pid for key in who),
            *(event.ns_pid, event.uid, event.gid, os.fsencode(event.comm)),
        )
        assert decode(data) == PerfRecord(FORK_KIND, seq, event)

    @given(
        st.lists(
            st.binary(min_size=1, max_size=9).filter(lambda part: not {0, 47} & set(part)),
            max_size=6,
        ),
        st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"")),
        st.lists(st.binary(max_size=9).map(lambda raw: raw.replace(b"\0", b"")), max_size=6),
    )
    def test_paths_and_arguments_survive_the_wire(
        self, components: list[bytes], filename: bytes, args: list[bytes]
    ) -> None:
        record = exec_record(
            exe=b"".join(part + b"\0" for part in reversed(components)),
            filename=filename + b"\0",
            args=b"".join(arg + b"\0" for arg in args),
        )
        event = decode(record).event
        assert isinstance(event, Exec)
        assert event.executable == (text(b"/" + b"/".join(components)) if components else None)
        assert event.filename == (text(filename) or None)
        assert event.args == tuple(map(text, args))

    @given(st.builds(Exit, u64, keys, keys, u32, u32, u32, comms.map(text), u64, u64))
    def test_an_exit_survives_the_wire(self, event: Exit) -> None:
        assert event.parent is not None
        assert event.comm is not None
        data = EXIT.pack(
            *header(EXIT_KIND, time_ns=event.timestamp_ns),
            *(event.key.start_time_ns, event.parent.start_time_ns),
            *(event.cgroup_id, event.cpu_ns),
            *(event.key.pid, event.parent.pid, event.uid, event.gid),
            *(event.status, 0, os.fsencode(event.comm)),
        )
        assert decode(data).event == event

    @given(keys, comms)
    def test_a_rename_survives_the_wire(self, key: ProcessKey, comm: bytes) -> None:
        data = RENAME.pack(*header(RENAME_KIND), key.start_time_ns, key.pid, 0, comm)
        assert decode(data).event == Rename(1_000, key, text(comm))


# Fills each field with a value of its own and writes the record as memory has it.
C_PROGRAM = r"""
#include <stdio.h>
#include <string.h>
typedef unsigned long long __u64;
typedef unsigned int __u32;
typedef unsigned short __u16;
#include "proctree.h"

#define HEADER(k) { .seq = 9, .time_ns = 1000, .version = PT_WIRE_VERSION, .kind = k, \
	.flags = PT_ARGS_TRUNCATED, .cpu = 1 }
#define PUT(x) fwrite(&x, sizeof(x), 1, stdout)

int main(int argc, char **argv)
{
	struct pt_fork f = { .h = HEADER(PT_FORK), .child_start_ns = 111, .creator_start_ns = 222,
		.parent_start_ns = 333, .cgroup_id = 444, .child_tgid = 200, .creator_tgid = 100,
		.parent_tgid = 1, .ns_pid = 5, .uid = 1000, .gid = 1001, .comm = "bash" };
	struct pt_exec e = { .h = HEADER(PT_EXEC), .start_ns = 111, .parent_start_ns = 222,
		.cgroup_id = 333, .tgid = 200, .parent_tgid = 100, .uid = 1000, .gid = 1001,
		.comm = "ls", .args_total = 99, .exe_len = 11, .filename_len = 5, .args_len = 6 };
	struct pt_exit x = { .h = HEADER(PT_EXIT), .start_ns = 111, .parent_start_ns = 222,
		.cgroup_id = 333, .cpu_ns = 444, .tgid = 200, .parent_tgid = 100, .uid = 1000,
		.gid = 1001, .status = 0x8b, .comm = "ls" };
	struct pt_exit p = x;
	struct pt_rename r = { .h = HEADER(PT_RENAME), .start_ns = 111, .tgid = 200,
		.comm = "new name" };
	struct pt_met m = { .h = HEADER(PT_MET), .start_ns = 111, .creator_start_ns = 222,
		.tgid = 200, .creator_tgid = 100, .uid = 1000, .gid = 1001, .comm = "bash" };

	switch (argv[1][0]) {
	case 'f': PUT(f); break;
	case 'e': PUT(e); fwrite("ls\0bin\0usr\0" "./ls\0" "ls\0-l\0", 22, 1, stdout); break;
	case 'x': fwrite(&x, sizeof(x) - sizeof(x.reaper_start_ns), 1, stdout); break;
	case 'p': p.reaper_tgid = 50; p.reaper_start_ns = 555; PUT(p); break;
	case 'r': fwrite(&r, sizeof(r) - sizeof(r.parent_start_ns), 1, stdout); break;
	case 'j': r.parent_tgid = 50; r.parent_start_ns = 555; PUT(r); break;
	case 'm': PUT(m); break;
	case 's': printf("%zu %zu %zu %zu %zu %zu %d %d", sizeof(struct pt_header), sizeof(f),
		sizeof(e), sizeof(x), sizeof(r), sizeof(m), PT_WIRE_VERSION, PT_KINDS); break;
	case 't': printf("%zu %zu %zu %zu %zu %zu", sizeof(struct pt_key), sizeof(struct pt_seed),
		sizeof(struct pt_proc), sizeof(struct pt_control), sizeof(struct pt_fallback),
		sizeof(struct pt_counters));
	}
	return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
class TestTheHeader:
    @pytest.fixture(scope="class")
    @classmethod
    def program(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        directory = tmp_path_factory.mktemp("wire")
        source, program = directory / "wire.c", directory / "wire"
        source.write_text(C_PROGRAM)
        warnings = ["-Wall", "-Wpadded", "-Werror", "-Wno-unused-parameter"]
        subprocess.run(["cc", *warnings, f"-I{BPF}", "-o", program, source], check=True)
        return program

    @staticmethod
    def written(program: Path, what: str) -> bytes:
        return subprocess.run([program, what], check=True, capture_output=True).stdout

    def test_sizes_and_version_agree(self, program: Path) -> None:
        sizes = [layout.size for layout in (HEADER, FORK, EXEC, EXIT, RENAME, MET)]
        sizes[3] += KEY_START.size
        sizes[4] += KEY_START.size
        assert self.written(program, "s").split() == [
            str(number).encode() for number in (*sizes, WIRE_VERSION, len(KINDS))
        ]

    def test_the_tables_of_the_filter_have_the_sizes_that_c_gives_them(self, program: Path) -> None:
        layouts = (filter_maps._KEY, filter_maps._SEED, filter_maps._PROC, filter_maps._CONTROL)
        sizes = [layout.size for layout in (*layouts, filter_maps._FALLBACK)]
        counters = 8 * 2 * len(KINDS)
        assert [int(size) for size in self.written(program, "t").split()] == [*sizes, counters]

    def test_every_field_of_an_ancestor_is_where_c_puts_it(self, program: Path) -> None:
        assert decode(self.written(program, "m")) == decode(MET_RECORD)

    def test_every_field_of_a_fork_is_where_c_puts_it(self, program: Path) -> None:
        assert decode(self.written(program, "f")) == decode(FORK_RECORD)

    def test_every_field_of_an_exec_is_where_c_puts_it(self, program: Path) -> None:
        assert decode(self.written(program, "e")) == decode(exec_record(flags=TRUNCATED))

    def test_every_field_of_an_exit_is_where_c_puts_it(self, program: Path) -> None:
        assert decode(self.written(program, "x")) == decode(EXIT_RECORD)
        assert decode(self.written(program, "p")) == decode(PARENTS_EXIT_RECORD)

    def test_every_field_of_a_rename_is_where_c_puts_it(self, program: Path) -> None:
        assert decode(self.written(program, "r")) == decode(RENAME_RECORD)
        assert decode(self.written(program, "j")) == decode(JOINING_RECORD)
