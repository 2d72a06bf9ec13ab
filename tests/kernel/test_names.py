"""Names are arbitrary bytes: file names that are executed, and names that are taken."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Rename
from support.proc_truth import cmdline, comm, exe, identity

if TYPE_CHECKING:
    from support.actor import Stage
    from support.live_collector import LiveCollector

NAMES = {
    "spaces": b" a b ",
    "a closing parenthesis": b"a) S 1 (b",
    "only parentheses": b"))((",
    "a newline": b"new\nline",
    "escape sequences": b"\x1b[31m\x1b]0;x\x07",
    "invalid UTF-8": b"\xff\xfe\x80",
    "valid UTF-8": "näme→".encode(),
    "separators": b"a|b;c\\",
    "a tab and a quote": b"\t\"'",
    "15 bytes": b"exactly-15-byte",
    "more than 15 bytes": b"a-name-of-more-than-fifteen-bytes",
    "a character cut at byte 15": "14-bytes-here-→".encode(),
    "a bidirectional override": "\u202egpj.exe".encode(),
}
every_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())


@every_name
def test_an_executed_files_name_survives_as_it_is(
    live: LiveCollector, stage: Stage, tmp_path: Path, name: bytes
) -> None:
    program = os.fsencode(tmp_path) + b"/" + name
    shutil.copy(os.fsencode(stage.helpers.holder), program)
    with stage.hold(name, b"-" + name, program=program) as actor:
        who = identity(actor.pid)
        event = live.the_exec(who)
        assert os.fsencode(event.filename or "") == program
        assert event.executable == exe(actor.pid) == os.fsdecode(program)
        assert event.comm == comm(actor.pid) == os.fsdecode(name[:15])
        assert event.args_raw == cmdline(actor.pid) == name + b"\0-" + name + b"\0"
        assert [os.fsencode(arg) for arg in event.args] == [name, b"-" + name]
        assert live.node(who).cmd == comm(actor.pid)


@every_name
def test_a_name_that_a_process_takes_is_seen_in_the_tree(
    live: LiveCollector, stage: Stage, name: bytes
) -> None:
    with stage.play("rename", name) as actor:
        renamed = actor.await_report("renamed")
        live.fence()
        assert live.node(renamed.who).cmd == comm(actor.pid) == os.fsdecode(name[:15])
        assert live.info(renamed.who).cmd == comm(actor.pid)
        assert live.info(renamed.who).args[0] == str(stage.helpers.actor)
        assert [event.comm for event in live.events(renamed.who, Rename)] == [comm(actor.pid)]
    assert live.the_exit(renamed.who).comm == os.fsdecode(name[:15])


def test_a_process_may_take_an_empty_name(live: LiveCollector, stage: Stage) -> None:
    with stage.play("rename", "") as actor:
        renamed = actor.await_report("renamed")
        live.fence()
        assert live.node(renamed.who).cmd == comm(actor.pid) == ""
    live.the_exit(renamed.who)
    assert live.node(renamed.who).cmd == ""


def test_a_name_that_a_thread_takes_is_not_its_processs(live: LiveCollector, stage: Stage) -> None:
    with stage.play("thread-rename", "the thread") as actor:
        process = actor.await_report("process")
        tid = actor.await_report("thread").said["tid"]
        assert Path(f"/proc/{process.pid}/task/{tid}/comm").read_text() == "the thread\n"
        live.fence()
        assert live.node(process.who).cmd == comm(process.pid) == "actor"
        assert live.events(process.who, Rename) == []
    assert live.the_exit(process.who).comm == "actor"


def test_a_name_that_a_thread_gives_to_its_leader_is_the_processs(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("leader-rename", b"by a thread\xff") as actor:
        who = actor.await_report("renamed").who
        live.fence()
        assert live.node(who).cmd == comm(actor.pid) == "by a thread\udcff"
        assert [event.comm for event in live.events(who, Rename)] == ["by a thread\udcff"]


def test_a_rename_leaves_the_chain_and_the_arguments_alone(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("rename", "renamed") as actor:
        who = actor.await_report("renamed").who
        live.fence()
        fork, exec_, rename = live.history(who)
        assert rename.info.cmd == "renamed" != exec_.info.cmd
        assert rename.node.creator == exec_.node.creator == fork.node.creator
        assert live.info(who).args_raw == exec_.info.args_raw == cmdline(actor.pid)
        assert live.info(who).executable == exec_.info.executable == exe(actor.pid)
        assert not live.info(who).inherited
