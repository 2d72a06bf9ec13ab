"""The play that every source is shown: processes with every way of birth, change and end."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf import Exit
from proctree_bpf.codecs.cn_proc import What
from proctree_bpf.sources.system.connector_socket import ProcConnector
from support.proc_truth import identity
from support.real_connector import HUGE_BUFFER
from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from support.actor import Actor, Report, Stage
    from support.proc_truth import Identity
    from support.source_session import Session

_UNLIMITED = str(2**64 - 1)


@dataclass(frozen=True)
class Truth:
    """Who was there, as they or their parents told."""

    started_before: Identity
    holder: Identity
    holder_parent: Identity
    caller: Identity
    child: Identity
    child_ended: Report
    renamed: Identity
    zombie_ends: int
    """How often it was told that a child had ended that was not waited for yet."""
    daemon: list[Identity]
    """The daemon, the one in the middle, and the caller."""
    family: list[Report]
    codes: list[Report]
    signalled: list[Report]
    last: Report
    """Gone before the source was stopped, and after it was last polled."""


def perform(stage: Stage, directory: Path, before: Actor, session: Session) -> Truth:
    """Perform the play while a session watches; ``before`` is there already, and ends in it."""
    before_who = identity(before.pid)
    session.settle()
    with stage.hold("a holder", "its argument") as holder:
        held = identity(holder.pid)
        session.settle()
    session.await_ends(held)
    before.finish()
    session.await_ends(before_who)
    with stage.play("fork") as actor:
        caller, child = actor.await_report("caller"), actor.await_report("child")
        session.settle()
    session.await_ends(child.who)
    with stage.play("rename", "another name") as renamer:
        renamed = renamer.await_report("renamed")
        session.settle()
    session.await_ends(renamed.who)
    with stage.play("daemon") as daemon_actor:
        roles = ("daemon", "middle", "caller")
        daemon = [daemon_actor.await_report(role).who for role in roles]
        session.settle()
    session.await_ends(daemon[0])
    zombie_ends = _ends_told_of_a_zombie(stage, session)
    family = stage.played("family", "3", "3").all_of("child")
    session.settle()  # often, so that a busy machine does not fill the buffers
    codes = stage.played("codes").all_of("child")
    session.settle()
    return Truth(
        started_before=before_who,
        holder=held,
        holder_parent=identity(os.getpid()),
        caller=caller.who,
        child=child.who,
        child_ended=actor.await_report("reaped"),
        renamed=renamed.who,
        zombie_ends=zombie_ends,
        daemon=daemon,
        family=family,
        codes=codes,
        signalled=_ended_by_signals(stage, directory, session),
        last=_gone_unpolled(stage),
    )


def _ends_told_of_a_zombie(stage: Stage, session: Session) -> int:
    with stage.play("fork") as unwaited:
        zombie = unwaited.await_report("child")
        session.settle()
        os.kill(unwaited.pid, signal.SIGSTOP)
        os.kill(zombie.pid, signal.SIGKILL)
        wait_until("it is dead", lambda: state(zombie.pid) == "Z")
        with suppress(AssertionError):
            session.await_ends(zombie.who)
        ends = len(session.events_of(zombie.who, Exit))
        os.kill(unwaited.pid, signal.SIGCONT)
    return ends


def _ended_by_signals(stage: Stage, directory: Path, session: Session) -> list[Report]:
    played = []
    for number in (signal.SIGHUP, signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMAX):
        played.append(stage.played("signal", str(int(number)), "0"))
        session.settle()
    played.append(stage.played("signal", str(int(signal.SIGABRT)), _UNLIMITED, cwd=directory))
    session.settle()
    return [one.await_report("child") for one in played]


def _gone_unpolled(stage: Stage) -> Report:
    with ProcConnector([What.EXIT], HUGE_BUFFER) as witness:
        last = stage.played("spawn", stage.helpers.quit, "77").await_report("child")
        _await_end(witness, last.pid)
    return last


def _await_end(witness: ProcConnector, pid: int) -> None:
    """Return once the kernel has told that a process has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message = witness.recv_timeout(deadline - time.monotonic())
        if message is not None and (message.what, message.pid) == (What.EXIT, pid):
            return
    raise AssertionError(f"not within {PATIENCE_S} s: the end of {pid}")


def state(pid: int) -> str:
    """Return the letter of a process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
