"""What exec events say, against what ``/proc`` says of the live process."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import struct
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec, Rename
from support.live_collector import LiveCollector
from support.proc_truth import cmdline, comm, exe, identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.actor import Helpers, Stage

_LIMIT = 4096  # the default of --max-args-bytes


@pytest.fixture(scope="module")
def wide(helpers: Helpers) -> Iterator[LiveCollector]:
    """Another collector, that keeps as many arguments as it can."""
    live = LiveCollector(helpers.quit, max_args_bytes=32_768)
    with live.collector:
        yield live
    assert live.collector.stats()["lost"] == 0


def argument_block(total: int) -> tuple[str, ...]:
    """Return arguments whose block, each ended by NUL, has exactly this many bytes."""
    argv = ["first", *(f"argument-{n}" for n in range(20))]
    return (*argv, "x" * (total - sum(len(arg) + 1 for arg in argv) - 1))


def test_an_exec_tells_what_proc_tells(live: LiveCollector, stage: Stage) -> None:
    argv = ("zero", "", "two words", "new\nline", "ünïcode", "\t\x1b[31m", "", "end")
    with stage.hold(*argv, b"\xff\xfe") as actor:
        who = identity(actor.pid)
        event = live.the_exec(who)
        assert event.filename == str(stage.helpers.holder)
        assert event.executable == exe(actor.pid)
        assert event.args_raw == cmdline(actor.pid)
        assert event.args == (*argv, "\udcff\udcfe")
        assert event.comm == comm(actor.pid)
        assert not event.truncated
        info = live.info(who)
        assert (info.executable, info.args_raw) == (event.executable, event.args_raw)
        assert not info.inherited
        assert live.kinds(who) == ["Fork", "Exec"]


def test_each_exec_of_one_process_is_an_event_with_the_same_identity(
    live: LiveCollector, stage: Stage
) -> None:
    script = f'exec env "{stage.helpers.holder}" last'
    with stage.hold("sh", "-c", script, program=b"/bin/sh") as actor:
        who = identity(actor.pid)
        live.fence()
        execs = live.events(who, Exec)
        assert [os.path.basename(event.filename or "") for event in execs] == [  # noqa: PTH119
            "sh",
            "env",
            "holder",
        ]
        assert len({event.key for event in execs}) == 1
        assert live.info(who).args == (str(stage.helpers.holder), "last")
        assert live.kinds(who) == ["Fork", "Exec", "Exec", "Exec"]
    live.the_exit(who)


def test_an_exec_by_another_thread_than_the_leader_keeps_the_process(
    live: LiveCollector, stage: Stage
) -> None:
    actor = stage.played("thread-exec", stage.helpers.quit, "33")
    before, after = actor.await_report("before"), actor.await_report("process")
    tid = actor.await_report("thread").said["tid"]
    assert before.who == after.who
    live.fence()
    assert live.kinds(before.who) == ["Fork", "Exec", "Exit"]
    keys = {process_event.event.key for process_event in live.history(before.who)}
    assert len(keys) == 1
    assert live.the_exec(before.who).args == (str(stage.helpers.quit), "33")
    assert live.the_exit(before.who).status == after.status == 33 << 8
    node = live.collector.tree.pid_tree.get_node(tid)
    assert node is None or node.key.ticks < before.who.ticks


def test_an_exec_after_the_leader_has_ended_keeps_the_process(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("leader-first", stage.helpers.quit) as actor:
        survivor = actor.await_report("survivor")
    live.fence()
    assert live.kinds(survivor.who) == ["Fork", "Exec", "Exit"]
    assert len({process_event.event.key for process_event in live.history(survivor.who)}) == 1
    status = actor.await_report("process").status
    assert live.the_exit(survivor.who).status == status == 21 << 8


def test_a_script_has_its_own_filename_and_its_interpreters_executable(
    live: LiveCollector, stage: Stage, tmp_path: Path
) -> None:
    shutil.copy(stage.helpers.holder, tmp_path / "interpreter")
    script = tmp_path / "script"
    script.write_text(f"#!{tmp_path}/interpreter one argument\n")
    script.chmod(0o755)
    with stage.hold("script", "more", program=b"./script", cwd=tmp_path) as actor:
        event = live.the_exec(identity(actor.pid))
        assert event.filename == "./script"
        assert event.executable == exe(actor.pid) == str(tmp_path / "interpreter")
        assert event.args_raw == cmdline(actor.pid)
        assert event.args == (f"{tmp_path}/interpreter", "one argument", "./script", "more")
        assert event.comm == comm(actor.pid) == "script"


def test_a_program_reached_by_a_link_is_told_by_both_names(
    live: LiveCollector, stage: Stage, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(stage.helpers.holder)
    with stage.hold("x", program=os.fsencode(tmp_path / "link")) as actor:
        event = live.the_exec(identity(actor.pid))
        assert event.filename == str(tmp_path / "link")
        assert event.executable == exe(actor.pid) == str(stage.helpers.holder)
        assert event.comm == comm(actor.pid) == "link"


def test_an_execveat_of_a_memfd_has_no_wrong_executable(live: LiveCollector, stage: Stage) -> None:
    with stage.play("memfd", stage.helpers.holder, "in memory", "arg 0", "arg 1") as actor:
        actor.await_report("holding")
        who, fd = actor.await_report("before").who, actor.await_report("memfd").said["fd"]
        live.fence()
        event = live.events(who, Exec)[-1]
        assert exe(actor.pid) == "/memfd:in memory (deleted)"
        assert event.executable in {None, exe(actor.pid)}
        assert event.filename == f"/dev/fd/{fd}"
        assert event.args_raw == cmdline(actor.pid) == b"arg 0\0arg 1\0"
        assert event.comm == comm(actor.pid)


def test_an_empty_argv_is_told_as_the_kernel_has_it(live: LiveCollector, stage: Stage) -> None:
    with stage.play("no-args", stage.helpers.holder) as actor:
        actor.await_report("holding")
        live.fence()
        event = live.events(actor.await_report("before").who, Exec)[-1]
        assert event.args_raw == cmdline(actor.pid)
        assert event.args in {(), ("",)}  # since Linux 5.18 (dcd46d897adb) it is ("",)
        assert event.filename == event.executable == str(stage.helpers.holder)
        assert not event.truncated


def test_an_argv_of_100_000_bytes_is_cut_at_the_limit_and_says_so(
    live: LiveCollector, stage: Stage
) -> None:
    argv = argument_block(100_000)
    with stage.hold(*argv) as actor:
        event = live.the_exec(identity(actor.pid))
        whole = cmdline(actor.pid)
        assert len(whole) == 100_000
        assert event.truncated
        assert event.args_raw == whole[:_LIMIT]
        assert live.info(identity(actor.pid)).truncated


def test_a_higher_limit_keeps_more(wide: LiveCollector, stage: Stage) -> None:
    with stage.hold(*argument_block(100_000)) as actor:
        event = wide.the_exec(identity(actor.pid))
        assert event.truncated
        assert event.args_raw == cmdline(actor.pid)[:32_768]
    with stage.hold(*argument_block(30_000)) as actor:
        event = wide.the_exec(identity(actor.pid))
        assert not event.truncated
        assert event.args_raw == cmdline(actor.pid)


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_the_limit_is_exact_to_the_byte(
    live: LiveCollector, wide: LiveCollector, stage: Stage, excess: int
) -> None:
    for collector, limit in ((live, _LIMIT), (wide, 32_768)):
        with stage.hold(*argument_block(limit + excess)) as actor:
            event = collector.the_exec(identity(actor.pid))
            assert event.truncated == (excess > 0)
            assert event.args_raw == cmdline(actor.pid)[:limit]


def test_many_short_arguments_are_all_there(wide: LiveCollector, stage: Stage) -> None:
    argv = [str(number) for number in range(5000)]
    with stage.hold(*argv) as actor:
        assert wide.the_exec(identity(actor.pid)).args == tuple(argv)


def test_a_failed_exec_is_no_event(live: LiveCollector, stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("neither ELF nor a script")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "data").write_bytes(b"\x7fELF")
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    tries = {
        "missing": errno.ENOENT,
        "text": errno.ENOEXEC,
        "data": errno.EACCES,
        "script": errno.ENOENT,
        ".": errno.EACCES,
    }
    actor = stage.played("failing-execs", *(tmp_path / name for name in tries))
    assert [r.said["errno"] for r in actor.all_of("refused")] == list(tries.values())
    process = actor.await_report("process")
    live.fence()
    assert live.kinds(process.who) == ["Fork", "Exit"]
    assert live.history(process.who)[-1].info.inherited
    assert live.the_exit(process.who).status == process.status


def test_an_exec_that_fails_beyond_return_is_an_exit_only(
    live: LiveCollector, stage: Stage, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(_with_unmappable_segments(stage.helpers.quit.read_bytes()))
    broken.chmod(0o755)
    child = stage.played("vfork-exec", broken).await_report("child")
    assert os.WTERMSIG(child.status) == signal.SIGSEGV
    live.fence()
    assert "Exec" not in live.kinds(child.who)
    assert live.the_exit(child.who).status == child.status
    assert live.the_exit(child.who).comm == "broken"  # the kernel had renamed it already


def _with_unmappable_segments(elf: bytes) -> bytes:
    """Break the rule that a segment's address and offset agree within a page."""
    patched = bytearray(elf)
    (table,) = struct.unpack_from("<Q", elf, 0x20)
    size, count = struct.unpack_from("<HH", elf, 0x36)
    for at in range(table, table + size * count, size):
        (kind,) = struct.unpack_from("<I", elf, at)
        (address,) = struct.unpack_from("<Q", elf, at + 16)
        if kind == 1:  # PT_LOAD
            struct.pack_into("<Q", patched, at + 16, address + 0x123)
    return bytes(patched)


def test_the_name_that_exec_gives_is_not_told_as_a_rename(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.hold("x") as actor:
        who = identity(actor.pid)
    live.the_exit(who)
    assert live.events(who, Rename) == []
