"""The filter in the kernel takes over, doubts, and takes over again: nobody slips through."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfOptions, BpfSource, Exec, Exit, Fork, ProcessEvent
from proctree_bpf.filters.kernel_port import KernelFilterSpec
from support.random_family import RandomFamily
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from proctree_bpf.filters.kernel_port import Seed
    from support.actor import Helpers, Stage
    from support.filtered_pipeline import FilteredPipeline
    from support.random_family import Events

_HANDOVERS = 200


def last_of(process_event: ProcessEvent) -> str:
    """Return a process's last argument: the id of a member of a clan."""
    return (
        process_event.info.args[-1] if process_event.info.args else f"no arguments: {process_event}"
    )


def check(filtered: FilteredPipeline, truth: Events) -> None:
    """Compare what was told, to the end, with what happened."""
    filtered.pipeline.finish()
    assert filtered.gaps == []
    forks = {(a.event.child.pid, a.event.creator.pid) for a in filtered.of(Fork)}  # type: ignore[union-attr]
    execs = {(a.event.key.pid, last_of(a)) for a in filtered.of(Exec)}
    exits = {(a.event.key.pid, last_of(a), a.info.exit_code) for a in filtered.of(Exit)}
    assert forks == set(truth.forks)
    assert execs == set(truth.execs)
    wrong = exits - set(truth.exits)
    assert not wrong, "\n".join(map(str, wrong))
    assert exits == set(truth.exits)


@pytest.mark.timeout(400)
def test_hundreds_of_hand_overs_lose_nobody(
    begun: Callable[..., FilteredPipeline], helpers: Helpers, tmp_path: Path
) -> None:
    filtered = begun("ancestor=kinsman")
    truth: Events | None = None
    done = 0
    for seed in range(1000):
        clan = RandomFamily(helpers, tmp_path, "kinsman", 60, seed)
        other = RandomFamily(helpers, tmp_path, "stranger", 30, seed + 1)
        while clan.popen.poll() is None:
            filtered.until_on()
            filtered.hand_over_again()
            done += 1
        other.finish()
        members = clan.finish()
        truth = members if truth is None else truth | members
        if done >= _HANDOVERS:
            break
    assert truth is not None
    assert filtered.filter_controller.times_on >= _HANDOVERS
    check(filtered, truth)


def test_what_ran_before_the_start_is_followed(
    begun: Callable[..., FilteredPipeline], stage: Stage
) -> None:
    with stage.play("crowd", "3") as actor:
        actor.await_report("child", 3)
        filtered = begun(f"ancestor-pid={actor.pid}")
        filtered.until_on()
        actor.finish()
        for report in actor.all_of("child"):
            filtered.until_told(report.pid, Exit)


_LATE = """
import os, sys
ready, go = os.pipe(), os.pipe()
middle = os.fork()
if not middle:
    if not os.fork():
        os.write(ready[1], str(os.getpid()).encode())
        os.close(go[1])
        os.read(go[0], 1)
        os.execv("/bin/true", ["true", "of a daemon"])
    os._exit(0)
os.waitpid(middle, 0)
print(os.read(ready[0], 16).decode(), flush=True)
sys.stdin.readline()
os.execv(sys.argv[1], ["late", "1"])
"""


def test_children_that_it_had_before_its_exec_are_followed(
    begun: Callable[..., FilteredPipeline], helpers: Helpers, tmp_path: Path
) -> None:
    """The kernel's side cannot know them: it doubts, and the tree catches up."""
    joiner = tmp_path / "late-joiner"
    joiner.symlink_to(helpers.quit)
    filtered = begun("ancestor=late-joiner")
    filtered.until_on()
    with subprocess.Popen(
        [sys.executable, "-c", _LATE, joiner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        daemon = int(process.stdout.readline())
        assert filtered.told_of(process.pid) == filtered.told_of(daemon) == []
        process.stdin.write("go\n")  # its end closes the pipe that the daemon waits at
        process.stdin.flush()
        filtered.until_told(daemon, Exit)
    filtered.until_told(process.pid, Exit)
    assert filtered.told_of(daemon) == [Exec, Exit]
    assert filtered.told_of(process.pid) == [Exec, Exit]
    assert filtered.filter_controller.fallbacks == {"joined_late": 1}
    filtered.until_on()


def test_a_new_name_is_heeded(begun: Callable[..., FilteredPipeline]) -> None:
    filtered = begun("ancestor=renamed-one")
    filtered.until_on()
    script = "printf renamed-one >/proc/$$/comm; true; /bin/true under it; exit 7"
    with subprocess.Popen(["sh", "-c", script]) as process:
        filtered.until_told(process.pid, Exit)
    (line,) = {a.info.args for a in filtered.of(Exec)}
    assert line == ("/bin/true", "under", "it")
    assert filtered.filter_controller.fallbacks == {"joined_late": 1}


@pytest.mark.parametrize(
    ("last", "unknown"),
    [("exit 7", {"rename", "fork", "exit"}), ("exec /bin/true under it", {"rename", "fork"})],
)
def test_what_was_left_out_is_not_told_as_what_ran_before_it(
    begun: Callable[..., FilteredPipeline], last: str, unknown: set[str]
) -> None:
    """It has ended when anybody looks: nobody can know the program with which it joined."""
    joins = f"printf late-name >/proc/$$/comm; /bin/true under it; {last}"
    script = 'read go; exec sh -c "$0"'
    with subprocess.Popen(["sh", "-c", script, joins], stdin=subprocess.PIPE) as process:
        filtered = begun("ancestor=late-name")
        filtered.until_on()
        process.communicate(b"go\n")
    filtered.until_told(process.pid, Exit)
    told = {(each.kind, each.args, each.executable) for each in filtered.told}
    known = (("/bin/true", "under", "it"), os.path.realpath("/bin/true"))
    assert told == {("exec", *known), ("exit", *known), *((kind, (), None) for kind in unknown)}
    assert filtered.filter_controller.fallbacks == {"joined_late": 1}


def test_a_program_file_is_heeded_whatever_its_name(
    begun: Callable[..., FilteredPipeline], helpers: Helpers, tmp_path: Path
) -> None:
    wanted, copy, link = tmp_path / "wanted", tmp_path / "copy", tmp_path / "link"
    for path in (wanted, copy):
        shutil.copy(helpers.quit, path)
    link.symlink_to(wanted)
    filtered = begun(f"ancestor-exe={wanted}")
    filtered.until_on()
    script = f"{copy} 4; exec {link} 5"
    with subprocess.Popen(["sh", "-c", script]) as process:
        filtered.until_told(process.pid, Exit)
    assert {process_event.event.key.pid for process_event in filtered.applied} == {process.pid}
    assert [a.info.executable for a in filtered.of(Exec)] == [str(wanted)]
    filtered.until_on()
    assert filtered.filter_controller.fallbacks == {"joined_late": 1}, (
        "the shell had a child before"
    )


def test_what_a_wanted_file_starts_is_followed(
    begun: Callable[..., FilteredPipeline], tmp_path: Path
) -> None:
    shell = tmp_path / ("a-name-of-many-bytes" * 5) / "sh"
    shell.parent.mkdir()
    shutil.copy("/bin/sh", shell)
    filtered = begun(f"ancestor-exe={shell}")
    filtered.until_on()
    with subprocess.Popen([shell, "-c", "/bin/true under it; exit 0"]) as process:
        filtered.until_told(process.pid, Exit)
    assert [a.info.args[0] for a in filtered.of(Exec)] == [str(shell), "/bin/true"]
    assert filtered.filter_controller.fallbacks == {}


_LINE = """
import os, subprocess, sys

def rename(name):
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)

child = None
for line in sys.stdin:
    word, *rest = line.split()
    if word == "rename":
        rename(*rest)
    elif word == "child":
        child = subprocess.Popen(rest, stdin=subprocess.PIPE, text=True)
        print(child.pid, flush=True)
    elif word == "tell":
        child.stdin.write(" ".join(rest) + "\\n")
        child.stdin.flush()
    elif word == "free":
        child.stdin.close()
        child.wait()
    print("done", flush=True)
"""


class Line:
    """A process that renames itself and starts children when told to."""

    def __init__(self) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _LINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, *words: str) -> str:
        """Have it do something; returns what it said of it."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(" ".join(words) + "\n")
        self.popen.stdin.flush()
        said = []
        while (line := self.popen.stdout.readline().strip()) != "done":
            assert line or self.popen.poll() is None
            said.append(line)
        return "".join(said)


@pytest.fixture
def line() -> Iterator[Line]:
    running = Line()
    yield running
    running.popen.communicate()


def test_an_ancestor_from_before_the_start_is_told_by_its_new_name(
    begun: Callable[..., FilteredPipeline], line: Line, helpers: Helpers, tmp_path: Path
) -> None:
    """The reader knew it by its tick alone, and its child as well."""
    joiner = tmp_path / "joiner"
    joiner.symlink_to(helpers.quit)
    shell = int(line.do("child", "/bin/sh"))
    filtered = begun("ancestor=joiner")
    filtered.until_on()
    line.do("rename", "the-new-name")
    line.do("tell", "rename-is-over=1")
    line.do("tell", f"{joiner} 3")
    line.do("free")
    filtered.until("the joiner's end", lambda: len(filtered.of(Exit)) > 0)
    (joined,) = filtered.of(Exec)
    assert joined.node.creator.pid == shell
    (told,) = [told for told in filtered.told if told.kind == "exec"]
    assert [name for name, _ in told.above][:2] == ["sh", "the-new-name"]
    assert filtered.filter_controller.fallbacks == {}


@pytest.mark.parametrize("kind", [Fork, Exit])
def test_who_joins_between_the_seeds_and_the_filter_has_its_ancestors_told(
    begun: Callable[..., FilteredPipeline],
    line: Line,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
) -> None:
    shell = tmp_path / "joiner"
    shutil.copy("/bin/sh", shell)
    filtered = begun("ancestor=joiner")
    kernel = filtered.source.kernel_filter
    assert kernel is not None
    switch_on, joined = kernel.switch_on, 0

    def late(seeds: Collection[Seed]) -> bool:
        nonlocal joined
        joined = int(line.do("child", str(shell)))
        return switch_on(seeds)

    monkeypatch.setattr(kernel, "switch_on", late)
    filtered.until_on()
    filtered.until_told(joined, Exec)
    line.do("rename", "the-new-name")
    if kind is Fork:
        line.do("tell", "/bin/true; exit 0")
    line.do("free")
    filtered.until_told(joined, Exit)
    assert filtered.filter_controller.times_on == 1
    met = filtered.tree.get_node(line.popen.pid)
    assert met is not None
    assert met.cmd == "the-new-name"


def test_without_the_filter_it_goes_on_if_only_that_does_not_load() -> None:
    options = BpfOptions(kernel_filter_spec=KernelFilterSpec(("x",)), filter_slots=2**32 - 1)
    source = BpfSource(options)
    source.open()
    try:
        assert source.kernel_filter is None
        assert source.filter_refusal is not None
        with subprocess.Popen(["/bin/true"]) as process:
            pass

        def is_told() -> bool:
            return any(event.key.pid == process.pid for event in source.poll().events)

        wait_until("an event", is_told)
    finally:
        source.close()


def test_a_table_that_is_too_small_loses_nobody(
    begun: Callable[..., FilteredPipeline], helpers: Helpers, stage: Stage, tmp_path: Path
) -> None:
    filtered = begun("ancestor=kinsman", slots=30)
    with stage.play("crowd", "60") as crowd:
        crowd.await_report("child", 60)
        truth = RandomFamily(helpers, tmp_path, "kinsman", 300, 4).finish()
    check(filtered, truth)
    assert filtered.filter_controller.given_up is not None
    assert "--capacity" in filtered.filter_controller.given_up
    assert not filtered.filter_controller.is_on


def test_those_that_end_are_forgotten_in_the_kernel(
    begun: Callable[..., FilteredPipeline], helpers: Helpers, tmp_path: Path
) -> None:
    filtered = begun("ancestor=kinsman")
    filtered.until_on()
    truth = RandomFamily(helpers, tmp_path, "kinsman", 300, 8).finish()
    kernel = filtered.source.kernel_filter
    assert kernel is not None
    noted = {each.key for each in kernel.processes()}
    check(filtered, truth)
    assert not noted & {process_event.event.key for process_event in filtered.of(Exit)}
