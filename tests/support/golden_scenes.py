"""The scenes that golden recordings show: families with every way of birth and end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.actor import Actor, Helpers, Stage
from support.golden_scrub import STAGE
from support.random_family import RandomFamily
from support.spawner import Spawner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.program import Trace

DIRECTORY = Path(STAGE)
USER = 4_000_001  # a uid that has a name on no machine
_SOURCES = Path(__file__).parents[1] / "kernel" / "helpers"
_BARE = ("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-no-pie")
_ACTOR = ("actor.c", "creation.c", "exiting.c", "execing.c", "identity.c")
_UNLIMITED = str(2**64 - 1)
# As programs and as names that processes take.
NAMES = (
    b" a b ",
    b"a) S 1 (b",
    b"new\nline",
    b"\x1b[31m\x1b]0;x\x07",
    b"\xff\xfe\x80",
    "näme→".encode(),
    b"a|b;c\\",
    b"\t\"'",
    b"a-name-of-more-than-fifteen-bytes",
    "14-bytes-here-→".encode(),
    "\u202egpj.exe".encode(),
)
_SHELLS = ("sh", "sshd", "bash", "make", "cc", "cron", "daemon")
_SCRIPTS = {
    "login.sh": """exec 3<&0
{s}/bash {s}/shell.sh one 'two words' <&3 & first=$!
wait $first
({s}/daemon {s}/service.sh <&3 &)
exit 4""",
    "shell.sh": """exec 3<&0
{s}/make {s}/rules.sh all --jobs=2
{s}/quit status=$?
( ( exit 9 ); {s}/quit 0 )
exec {s}/sh {s}/last.sh""",
    "rules.sh": """for i in 1 2 3; do {s}/cc {s}/compile.sh $i & done
wait
{s}/quit 2""",
    "compile.sh": """{s}/quit $1
( : )
exec {s}/quit "$1" -o "out file" 0""",
    "last.sh": "{s}/quit 0; kill -KILL $$",
    "service.sh": """{s}/quit 0
{s}/sh -c '{s}/quit 5; :'
exec {s}/holder --foreground""",
    "job.sh": "{s}/quit 0; {s}/quit 1; {s}/sh {s}/compile.sh 0",
    "script": "#!{s}/sh\n{s}/quit 3",
}


@contextmanager
def built() -> Iterator[Helpers]:
    """Compile the helpers where the scenes play, and clear it away at the end."""
    DIRECTORY.mkdir(mode=0o755)
    try:
        _compile("actor", *_ACTOR, flags=("-pthread",))
        for name in ("quit", "holder"):
            _compile(name, f"{name}.c", flags=_BARE)
        for name in ("spawner", "clan"):
            _compile(name, f"{name}.c")
        for name in _SHELLS:
            shutil.copy("/bin/sh", DIRECTORY / name)
        for name, text in _SCRIPTS.items():
            (DIRECTORY / name).write_text(text.format(s=STAGE) + "\n")
            (DIRECTORY / name).chmod(0o755)
        paths = [DIRECTORY / name for name in ("actor", "quit", "holder", "spawner", "clan")]
        yield Helpers(DIRECTORY, *paths)
    finally:
        shutil.rmtree(DIRECTORY)


def _compile(name: str, *sources: str, flags: tuple[str, ...] = ()) -> None:
    files = [str(_SOURCES / source) for source in sources]
    subprocess.run(["cc", "-O2", *flags, "-o", str(DIRECTORY / name), *files], check=True)


@dataclass
class Play:
    """What a scene is played with; ``pause`` waits until the source can have looked."""

    stage: Stage
    pause_s: float
    trace: Trace | None = None

    def pause(self) -> None:
        time.sleep(self.pause_s)

    def run(self, case: str, *args: str | bytes | Path) -> None:
        with self.stage.play(case, *args):
            self.pause()

    def flood(self, count: int, token: str) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        spawners = [
            Spawner(self.stage.helpers, DIRECTORY, token, count, first=n * count, cpu=cpu)
            for n, cpu in enumerate(cpus)
        ]
        for spawner in spawners:
            spawner.finish()


def births(play: Play) -> None:
    quit_ = play.stage.helpers.quit
    for case in ("fork", "vfork", "clone3", "clone-parent", "daemon", "adopted"):
        with play.stage.play(case) as actor:
            if case != "vfork":
                role = {"daemon": "daemon", "adopted": "orphan"}.get(case, "child")
                actor.await_report(role)
            play.pause()
    play.run("renamed-fork", "another-name")
    play.run("vfork-exec", quit_, "by vfork", "8")
    play.run("spawn", quit_, "by spawn", "9")
    with play.stage.play("thread-fork", "a-thread") as actor:
        actor.await_report("child")
        play.pause()
    play.run("threads", "3")
    play.run("thread-forks", "3", "4")
    play.run("family", "3", "3")
    with play.stage.play("generations", "20") as actor:
        actor.await_report("child")
        play.pause()


def ends(play: Play) -> None:
    play.run("codes")
    for number in (1, 2, 9, 15, 11, 34):
        play.run("signal", str(number), "0")
    with play.stage.play("signal", str(int(signal.SIGABRT)), _UNLIMITED, cwd=DIRECTORY):
        play.pause()
    for args in ((), (play.stage.helpers.quit,)):
        with play.stage.play("leader-first", *args) as actor:
            actor.await_report("survivor")
            play.pause()
    play.run("group-exit", "13")
    play.run("killed-threads", "3")
    play.run("plain-exit", "14")
    play.run("unawaited")
    with play.stage.play("zombie") as actor:
        actor.await_report("parent")
        play.pause()
    with play.stage.play("pid-namespace") as actor:
        actor.await_report("child")
        play.pause()
    with play.stage.play("stuck-exit") as actor:
        actor.await_report("parent")
        play.pause()


def execs(play: Play) -> None:
    stage, holder = play.stage, play.stage.helpers.holder
    play.run("thread-exec", stage.helpers.quit, "by a thread", "6")
    with stage.play("memfd", holder, "in memory", "memfd", "argument") as actor:
        actor.await_report("holding")
        play.pause()
    play.run("no-args", stage.helpers.quit)
    play.run("failing-execs", "/nonexistent", STAGE, DIRECTORY / "service.sh")
    for case in ("rename", "thread-rename", "leader-rename"):
        play.run(case, "a-new-name")
    for name in NAMES:
        program = os.fsencode(DIRECTORY) + b"/" + name
        shutil.copy(os.fsencode(holder), program)
        with stage.hold(name, b"-" + name, "", program=program):
            play.pause()
        with stage.play("rename", name) as actor:
            actor.await_report("renamed")
            play.pause()
    deep = DIRECTORY.joinpath(*["a-directory-of-a-name-that-is-long"] * 12)
    deep.mkdir(parents=True, exist_ok=True)
    shutil.copy(holder, deep / "program")
    with stage.hold("deep", *["x" * 99] * 90, program=os.fsencode(deep / "program")):
        play.pause()
    with stage.hold("as a user", user=USER, group=USER):
        play.pause()
    with Actor([DIRECTORY / "script", "an argument"]):
        play.pause()


def identity(play: Play) -> None:
    with play.stage.play_with_pid("latter", "reuse"):
        play.pause()
    with play.stage.play_with_pid("done", "lives", "30"):
        play.pause()
    for life in range(7):
        program = DIRECTORY / f"life-{life}"
        if not program.exists():
            program.symlink_to(play.stage.helpers.quit)
    with play.stage.play_with_pid("last", "names", "6", DIRECTORY):
        play.pause()


def _clan(seed: int, size: int, *, calm: bool = False) -> Callable[[Play], None]:
    def clan(play: Play) -> None:
        family = RandomFamily(play.stage.helpers, DIRECTORY, "clansman", size, seed, calm=calm)
        play.pause()
        family.finish()
        play.pause()

    return clan


def session(play: Play) -> None:
    """Somebody logs in, builds, fails, and leaves a service behind; a job runs beside it."""
    shell, script = DIRECTORY / "sshd", DIRECTORY / "login.sh"
    with ExitStack() as stack:
        login = stack.enter_context(Actor([shell, script]))
        stack.enter_context(Actor([DIRECTORY / "cron", DIRECTORY / "job.sh"]))
        login.await_report("holding")
        other = stack.enter_context(Actor([shell, script], user=USER, group=USER, extra_groups=[]))
        stack.enter_context(play.stage.hold("--looks=like", "sshd"))
        other.await_report("holding")
        play.pause()
    play.pause()


def startup(play: Play) -> None:
    """Goes on with what went on while the tracer started."""
    play.pause()


def losses(play: Play) -> None:
    """More than the buffers hold, beside others that live through it or begin in it."""
    assert play.trace is not None
    with play.stage.play("crowd", "5") as known:
        known.await_report("child", 5)
        time.sleep(1.1)
        os.kill(play.trace.pid, signal.SIGSTOP)
        play.flood(200, "flooded")
        with play.stage.play("crowd", "12") as missed, play.stage.hold("held", "") as held:
            missed.await_report("child", 12)
            play.flood(60, "again")
            os.kill(play.trace.pid, signal.SIGCONT)
            known.finish()
            time.sleep(1.3)
            with Actor([DIRECTORY / "cron", DIRECTORY / "job.sh"]):
                play.pause()
            held.release()
            time.sleep(0.1)
    play.flood(40, "at the end")


@dataclass(frozen=True)
class Scene:
    """A play before a source with certain options; ``command`` is what trace itself runs.

    ``in_kernel`` records what comes through a filter in the kernel, which ``--record`` would
    not allow: a replay knows nothing of that filter, and meets ancestors by their own records.
    """

    source: str
    play: Callable[[Play], None]
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    during_start: bool = False
    in_kernel: bool = False


_ALL = ("bpf", "proc-connector", "proc-walker")
_SHORT = {"bpf": "bpf", "proc-connector": "cn", "proc-walker": "walk"}
_LOSSY = ("--perf-pages", "2", "--interval", "100")
_OVERRUN = ("--receive-buffer", "16384")


def _scenes() -> Iterator[tuple[str, Scene]]:
    for source in _ALL:
        short = _SHORT[source]
        yield f"session-{short}", Scene(source, session)
        yield f"births-{short}", Scene(source, births)
        yield f"execs-{short}", Scene(source, execs)
    for source in _ALL[:2]:
        short = _SHORT[source]
        yield f"ends-{short}", Scene(source, ends)
        yield f"identity-{short}", Scene(source, identity)
        yield f"startup-{short}", Scene(source, startup, during_start=True)
        run = (f"{STAGE}/sshd", f"{STAGE}/login.sh")
        yield f"command-{short}", Scene(source, startup, command=run)
    below = ("--ancestor", "make,daemon")
    yield "filtered-bpf", Scene("bpf", session, below, in_kernel=True)
    yield "clan-bpf", Scene("bpf", _clan(11, 220))
    yield "clan2-bpf", Scene("bpf", _clan(47, 200))
    yield "clan-cn", Scene("proc-connector", _clan(23, 150))
    yield "identity-walk", Scene("proc-walker", identity)
    yield "losses-bpf", Scene("bpf", losses, _LOSSY)
    yield "losses-cn", Scene("proc-connector", losses, _OVERRUN)


SCENES = dict(_scenes())
