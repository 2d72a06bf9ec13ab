"""Makes golden recordings, and what they are to replay to. See README.md beside it.

make record [NAME...]            play scenes, record and scrub them (as root), then expect
make expect [NAME...] [-r REPLAY,...] [-n]   replay with today's code, keep what comes
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from support import golden_data
from support.actor import Helpers, Stage
from support.golden_replays import replay, replays_of
from support.golden_scenes import DIRECTORY, SCENES, Play, Scene, built
from support.golden_scrub import StrangerError, scrub
from support.program import tracing
from support.spawner import Spawner

_PAUSES = {"bpf": 0.03, "proc-connector": 0.06, "proc-walker": 0.25}
_MOST_BYTES = 150_000
_TRIES = 4
_UNHEEDED_SCRIPT = """
from proctree_bpf.cli import main
from proctree_bpf.cli.tracing import start
start._needs_every_event = lambda _: False
main()
"""
_UNHEEDED = [sys.executable, "-P", "-c", _UNHEEDED_SCRIPT]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def perform(scene: Scene, stage: Stage) -> bytes:
    """Play a scene in front of a tracer that records; return the scrubbed recording."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "recording")
        options = ["--source", scene.source, "--record", str(path), "-o", "/dev/null"]
        words = [*scene.options, *(("--", *scene.command) if scene.command else ())]
        play = Play(stage, _PAUSES[scene.source])
        spawner = None
        if scene.during_start:
            spawner = Spawner(stage.helpers, DIRECTORY, "at the start", 10_000, pause_us=4000)
        program = _UNHEEDED if scene.in_kernel else None
        with tracing(*options, *words, program=program) as trace:
            play.trace = trace
            play.pause()
            if spawner is not None:
                spawner.stop()
            scene.play(play)
            result = trace.wait() if scene.command else trace.stop()
            tracer = trace.pid
        for line in result.err.splitlines():
            say(f"    {line}")
        return scrub(path, os.getpid(), tracer)


def performed(scene: Scene, helpers: Helpers) -> bytes:
    """Perform a scene, again if strangers were in its way."""
    for left in reversed(range(_TRIES)):
        try:
            return perform(scene, Stage(helpers))
        except StrangerError as error:
            say(f"    {error}")
            if not left:
                raise
    raise AssertionError


def record(names: list[str]) -> None:
    with built() as helpers:
        for name in names or SCENES:
            say(f"{name}:")
            data = performed(SCENES[name], helpers)
            size = golden_data.keep_recording(name, data)
            say(f"    {len(data)} bytes, {size} packed")
            assert size < _MOST_BYTES, "too much for a repository"


def expect(names: list[str], only: list[str], *, dry: bool, new: bool) -> None:
    for name in names or golden_data.names():
        before = golden_data.expected(name)
        known = replays_of(name)
        kept = {member: lines for member, lines in before.items() if member.split("/")[0] in known}
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "recording")
            path.write_bytes(golden_data.recording(name))
            for chosen in [one for one in known if not only or one in only]:
                for kind, lines in replay(path, chosen).items():
                    member = f"{chosen}/{kind}"
                    kept[member] = lines
                    changed = golden_data.difference(before.get(member, []), lines)
                    if changed and not new:
                        say(f"{name} {member}: {changed}")
        if not dry and kept != before:
            say(f"{name}: {golden_data.keep_expected(name, kept)} bytes of what is expected")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tests/golden/make", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("what", choices=("record", "expect"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="recordings; all if none")
    parser.add_argument("-r", "--replays", default="", help="only these, with commas between")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only tell what differs")
    asked = parser.parse_args()
    if asked.what == "record":
        record(asked.names)
    only = [name for name in asked.replays.split(",") if name]
    expect(asked.names, only, dry=asked.dry_run, new=asked.what == "record")


if __name__ == "__main__":
    main()
