"""What the kernel tests share. They need root and a kernel that loads BPF programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.actor import Helpers, Stage
from support.filter_in_both_places import FilterInBothPlaces, Script
from support.filtered_pipeline import FilteredPipeline, beginning
from support.live_collector import LiveCollector
from support.proc_truth import comm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HERE = Path(__file__).parent
_SOURCES = _HERE / "helpers"
_FLAGS = ("-O2", "-Wall", "-Wextra")
_BARE = ("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-no-pie")
_FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root: sudo scripts/test"))
    # For the reason, see there.
    items.sort(key=lambda item: item.path != _HERE / "test_cpu_hotplug.py")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many kernel tests really ran, and what they measured."""
    ran = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and "kernel" in report.keywords
    ]
    terminalreporter.write_line(f"kernel tests executed: {len(ran)}")
    for figure in config.stash[_FIGURES]:
        terminalreporter.write_line(figure)


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> list[str]:
    """What is appended is shown at the end of the run."""
    return request.config.stash[_FIGURES]


def _compile(output: Path, sources: list[str], *flags: str) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.fail("the kernel tests need a C compiler: apt-get install gcc libc6-dev")
    built = subprocess.run(
        [compiler, *_FLAGS, *flags, "-o", output, *(_SOURCES / name for name in sources)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode or built.stderr:
        pytest.fail(f"{output.name} does not compile cleanly:\n{built.stderr}")
    return output


@pytest.fixture(scope="session")
def helpers() -> Iterator[Helpers]:
    """The helper programs, compiled; in a directory that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-helpers-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        topics = ["creation.c", "exiting.c", "execing.c", "identity.c", "adoption.c"]
        actor = ["actor.c", *topics]
        yield Helpers(
            directory=directory,
            actor=_compile(directory / "actor", actor, "-pthread"),
            quit=_compile(directory / "quit", ["quit.c"], *_BARE),
            holder=_compile(directory / "holder", ["holder.c"], *_BARE),
            spawner=_compile(directory / "spawner", ["spawner.c"]),
            clan=_compile(directory / "clan", ["clan.c"]),
        )


@pytest.fixture(scope="session")
def stage(helpers: Helpers) -> Stage:
    return Stage(helpers)


@pytest.fixture(scope="session")
def shared_live(helpers: Helpers) -> Iterator[LiveCollector]:
    """One collector for all tests; at the end, nothing may have been lost or misunderstood."""
    live = LiveCollector(helpers.quit)
    live.recording = False
    with live.collector:
        yield live
    stats = live.collector.stats()
    troubles = {name: stats[name] for name in ("lost", "undecodable", "missed", "late", "gaps")}
    assert not any(troubles.values()), (troubles, stats["by_kind"], live.gaps)
    assert not live.uncertain


@pytest.fixture
def live(shared_live: LiveCollector) -> Iterator[LiveCollector]:
    """The collector of all tests, with a record that begins and ends with the test."""
    shared_live.recording = True
    yield shared_live
    shared_live.recording = False
    shared_live.forget()


@pytest.fixture
def begun() -> Iterator[Callable[..., FilteredPipeline]]:
    """What makes and starts a pipeline with a filter."""
    with beginning() as begin:
        yield begin


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """End what a test left behind, so that only that test fails, and say so."""
    yield
    left = {pid: comm(pid) for pid in _own_children()}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert left == {}


def _own_children() -> list[int]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended since
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


@pytest.fixture
def both(begun: Callable[..., FilteredPipeline]) -> Callable[[str], FilterInBothPlaces]:
    return lambda terms: FilterInBothPlaces(begun, terms)


@pytest.fixture
def play() -> Iterator[Callable[..., Script]]:
    scripts: list[Script] = []

    def begin(text: str, *words: str, before: tuple[str, ...] = ()) -> Script:
        scripts.append(Script(text, *words, before=before))
        return scripts[-1]

    yield begin
    for script in scripts:
        script.end()


@pytest.fixture
def wanted(tmp_path: Path) -> Iterator[str]:
    """A program named wanted-one, which everybody may run."""
    directory = Path("/tmp") / f"proctree-{os.getpid()}-{tmp_path.name}"
    directory.mkdir(mode=0o755)
    program = directory / "wanted-one"
    program.symlink_to("/bin/true")
    yield str(program)
    program.unlink()
    directory.rmdir()
