"""The path of the running file, against ``readlink /proc/PID/exe`` of the live process."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec
from support.proc_truth import exe, identity

if TYPE_CHECKING:
    from pathlib import Path

    from support.actor import Actor, Stage
    from support.live_collector import LiveCollector

# Shell code that makes $DIR/here/program appear, in a mount namespace of its own, as a copy
# or another view of $HOLDER. The mounts end with the namespace.
MOUNTS = {
    "a tmpfs": """
        mount -t tmpfs none "$DIR/here"
        cp "$HOLDER" "$DIR/here/program"
    """,
    "a bind-mounted directory": """
        mkdir "$DIR/there"
        cp "$HOLDER" "$DIR/there/program"
        mount --bind "$DIR/there" "$DIR/here"
    """,
    "a bind-mounted file": """
        touch "$DIR/here/program"
        mount --bind "$HOLDER" "$DIR/here/program"
    """,
    "a bind mount of a part of a tmpfs": """
        mkdir "$DIR/there"
        mount -t tmpfs none "$DIR/there"
        mkdir -p "$DIR/there/deep/down"
        cp "$HOLDER" "$DIR/there/deep/down/program"
        mount --bind "$DIR/there/deep/down" "$DIR/here"
    """,
    "mounts in mounts": """
        mount -t tmpfs none "$DIR"
        mkdir "$DIR/here"
        mount -t tmpfs none "$DIR/here"
        cp "$HOLDER" "$DIR/here/program"
        mount --bind "$DIR/here/program" "$DIR/here/program"
    """,
    "mounts on one another": """
        mount -t tmpfs none "$DIR/here"
        mount -t tmpfs none "$DIR/here"
        mount -t tmpfs none "$DIR/here"
        cp "$HOLDER" "$DIR/here/program"
    """,
    "an overlay": """
        mount -t tmpfs none "$DIR/here"
        mkdir "$DIR/lower" "$DIR/here/upper" "$DIR/here/work" "$DIR/here/merged"
        cp "$HOLDER" "$DIR/lower/program"
        mount -t overlay none "$DIR/here/merged" -o \\
            "lowerdir=$DIR/lower,upperdir=$DIR/here/upper,workdir=$DIR/here/work"
        mount --bind "$DIR/here/merged" "$DIR/here"
    """,
}


def in_own_mounts(stage: Stage, directory: Path, script: str, last: str) -> Actor:
    """Run shell code in a mount namespace of its own; ``last`` execs the holder."""
    (directory / "here").mkdir()
    return stage.hold(
        *("unshare", "--mount", "--propagation", "private", "sh", "-ec", f"{script}\nexec {last}"),
        program=os.fsencode(shutil.which("unshare") or ""),
        env={**os.environ, "DIR": str(directory), "HOLDER": str(stage.helpers.holder)},
    )


def last_exec(live: LiveCollector, actor: Actor) -> Exec:
    live.fence()
    return live.events(identity(actor.pid), Exec)[-1]


@pytest.mark.parametrize("script", MOUNTS.values(), ids=MOUNTS.keys())
def test_the_path_crosses_mounts_as_the_kernels_does(
    live: LiveCollector, stage: Stage, tmp_path: Path, script: str
) -> None:
    with in_own_mounts(stage, tmp_path, script, '"$DIR/here/program"') as actor:
        event = last_exec(live, actor)
        assert event.executable == exe(actor.pid) == f"{tmp_path}/here/program"
        assert event.filename == f"{tmp_path}/here/program"


def test_the_path_in_a_chroot_is_the_hosts(
    live: LiveCollector, stage: Stage, tmp_path: Path
) -> None:
    script = 'cp "$HOLDER" "$DIR/here/program"'
    with in_own_mounts(stage, tmp_path, script, 'chroot "$DIR/here" /program') as actor:
        event = last_exec(live, actor)
        assert event.executable == exe(actor.pid) == f"{tmp_path}/here/program"
        assert event.filename == "/program"


def test_the_path_under_another_root_mount_is_that_of_its_namespace(
    live: LiveCollector, stage: Stage, tmp_path: Path
) -> None:
    script = """
        mount -t tmpfs none "$DIR/here"
        mkdir "$DIR/here/old" "$DIR/here/bin"
        cp "$HOLDER" "$DIR/here/bin/program"
        cd "$DIR/here"
        pivot_root . old
    """
    with in_own_mounts(stage, tmp_path, script, "/bin/program") as actor:
        event = last_exec(live, actor)
        assert event.executable == exe(actor.pid) == "/bin/program"


@pytest.mark.parametrize("component", ["x" * 255, "a b\n\x1b[0m", "\udcff\udcfe", "(deleted)"])
def test_components_may_be_long_or_strange(
    live: LiveCollector, stage: Stage, tmp_path: Path, component: str
) -> None:
    program = tmp_path / component / component
    program.parent.mkdir()
    shutil.copy(stage.helpers.holder, program)
    with stage.hold("x", program=os.fsencode(program)) as actor:
        event = last_exec(live, actor)
        assert event.executable == exe(actor.pid) == str(program)
        assert event.filename == str(program)


@pytest.mark.parametrize("name", ["in memory", "", "a/b\n\udcff", "x" * 249])
def test_a_program_that_only_a_descriptor_names_is_told_as_the_kernel_does(
    live: LiveCollector, stage: Stage, name: str
) -> None:
    descriptor = os.memfd_create(name, 0)
    try:
        os.write(descriptor, stage.helpers.holder.read_bytes())
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        with stage.hold("x", program=os.fsencode(path)) as actor:
            event = last_exec(live, actor)
            assert event.executable == exe(actor.pid) == f"/memfd:{name} (deleted)"
            assert event.filename == path
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("depth", [20, 30, 36, 60])
def test_a_path_of_many_components_is_right_or_unknown(
    live: LiveCollector, stage: Stage, tmp_path: Path, depth: int
) -> None:
    program = tmp_path.joinpath(*["d"] * (depth - len(tmp_path.parts)), "program")
    program.parent.mkdir(parents=True)
    shutil.copy(stage.helpers.holder, program)
    with stage.hold("x", program=os.fsencode(program)) as actor:
        event = last_exec(live, actor)
        assert event.filename == str(program)
        assert event.executable == (exe(actor.pid) if depth < 40 else None)


def test_a_path_of_4000_bytes_is_right_or_unknown(
    live: LiveCollector, stage: Stage, tmp_path: Path
) -> None:
    for length in (3000, 3800, 4000):
        parts = (length - len(str(tmp_path))) // 200
        program = tmp_path.joinpath(*["y" * 199] * parts)
        program.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stage.helpers.holder, program)
        with stage.hold("x", program=os.fsencode(program)) as actor:
            event = last_exec(live, actor)
            assert event.filename == str(program)
            assert event.executable in {None, exe(actor.pid)}
            assert event.executable is not None or length > 3000
        program.unlink()
