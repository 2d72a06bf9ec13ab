"""A second start loads what the first one compiled, and does what the first one did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfOptions, BpfSource, Exec, Exit, Fork
from proctree_bpf.errors import SourceUnavailableError
from proctree_bpf.filters.kernel_port import KernelFilterSpec
from proctree_bpf.sources.loading import compiling, programs
from support.polled_source import events_until_now
from support.program import environment, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.actor import Helpers

SOUGHT = {
    "no filter": None,
    "names": KernelFilterSpec(("nobody",)),
    "files": KernelFilterSpec(("nobody",), ("/none",)),
}
_CHILDREN = 20


def options(cache: Path | None, sought: str = "no filter") -> BpfOptions:
    return BpfOptions(program_cache=cache, kernel_filter_spec=SOUGHT[sought], filter_slots=1024)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def started(cache: Path) -> Iterator[Callable[..., BpfSource]]:
    """Start a source; what is returned tells whether the programs had been kept."""
    sources: list[BpfSource] = []

    def start(sought: str = "no filter") -> BpfSource:
        source = BpfSource(options(cache, sought))
        sources.append(source)
        source.open()
        assert source.filter_refusal is None
        return source

    yield start
    for source in sources:
        source.close()


def how(source: BpfSource) -> str:
    return str(source.stats()["programs"])


def identities(source: BpfSource) -> list[str]:
    """Return what the kernel says of the programs: tags are hashes of their code."""
    program = source._program
    assert program is not None
    found = []
    for fd in (fd for copy in program._functions for fd in copy):
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        found += [line for line in lines if line.startswith(("prog_type", "prog_tag"))]
    for name, fd in sorted(program._maps.items()):
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        wanted = ("map_type", "key_size", "value_size", "max_entries", "map_flags")
        found += [f"{name} {line}" for line in lines if line.startswith(wanted)]
    return found


def told(source: BpfSource, helpers: Helpers) -> list[str]:
    """Run some children; return what was told of them, without what differs from run to run."""
    program = os.fspath(helpers.quit)
    pids = []
    for status in range(_CHILDREN):
        pids.append(os.posix_spawn(program, [program, str(status)], {}))
        os.waitpid(pids[-1], 0)
    found = []
    for event in events_until_now(source):
        if event.key.pid not in pids:
            continue
        number = pids.index(event.key.pid)
        match event:
            case Fork():
                found.append(f"{number} fork {event.comm}")
            case Exec():
                found.append(f"{number} exec {event.comm} {event.args_raw!r} {event.executable}")
            case Exit():
                found.append(f"{number} exit {event.status}")
            case _:
                found.append(f"{number} {event!r}")
    return sorted(found)


@pytest.mark.parametrize("sought", SOUGHT)
def test_the_programs_are_the_same_and_tell_the_same(
    started: Callable[..., BpfSource], helpers: Helpers, sought: str
) -> None:
    first = started(sought)
    seen, is_what = told(first, helpers), identities(first)
    second = started(sought)
    assert (how(first), how(second)) == ("compiled", "kept")
    assert len(seen) == 3 * _CHILDREN
    assert told(second, helpers) == seen
    assert identities(second) == is_what


def test_other_options_are_other_programs(started: Callable[..., BpfSource]) -> None:
    assert [how(started(sought)) for sought in SOUGHT] == ["compiled"] * len(SOUGHT)
    assert [how(started(sought)) for sought in SOUGHT] == ["kept"] * len(SOUGHT)


_WITHOUT_COMPILER = """
import os, sys
from pathlib import Path
from proctree_bpf import BpfOptions, BpfSource
source = BpfSource(BpfOptions(program_cache=Path(sys.argv[1])))
source.open()
assert source.stats()["programs"] == sys.argv[2], source.stats()
assert "bcc" not in sys.modules
maps = Path("/proc/self/maps").read_text()
assert not [name for name in ("libbcc", "LLVM", "clang", "libbpf") if name in maps], maps
source.close()
"""


def test_neither_start_has_the_compiler_in_its_own_memory(cache: Path) -> None:
    for expected in ("compiled", "kept"):
        done = subprocess.run(
            [sys.executable, "-c", _WITHOUT_COMPILER, cache, expected],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


def test_a_second_start_runs_no_other_program(
    started: Callable[..., BpfSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    started()

    def run_it(_request: bytes) -> None:
        pytest.fail("the compiler was run")

    monkeypatch.setattr(compiling, "_run", run_it)
    assert how(started()) == "kept"


def _the_file(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def _flip(cache: Path) -> None:
    whole = bytearray(_the_file(cache).read_bytes())
    whole[-100] ^= 1
    _the_file(cache).write_bytes(whole)


def _replace(cache: Path) -> None:
    cache.rename(cache.with_name("moved"))
    cache.symlink_to(cache.with_name("moved"))


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a link in its place": _replace,
    "for the group to write": lambda cache: cache.chmod(0o770),
    "another user's": lambda cache: os.chown(cache, 12_345, -1),
    "a file of another user": lambda cache: os.chown(_the_file(cache), 12_345, -1),
    "cut short": lambda cache: os.truncate(_the_file(cache), 1000),
    "a flipped bit": _flip,
}


@pytest.mark.parametrize("change", HOSTILE)
def test_where_there_is_a_doubt_it_compiles(
    started: Callable[..., BpfSource], cache: Path, change: str
) -> None:
    started()
    HOSTILE[change](cache)
    assert how(started()) == "compiled"


CHANGES: dict[str, Callable[[pytest.MonkeyPatch, Path], object]] = {
    "another build of the kernel": lambda patch, other: (
        other.write_bytes(b"another build"),
        patch.setattr(programs, "_KERNEL_NOTES", other),
    ),
    "another BCC": lambda patch, _: patch.setattr(programs, "_bcc", lambda: "/elsewhere/bcc.py"),
    "a compiler that was replaced": lambda patch, _: patch.setattr(
        programs, "_is_unchanged", lambda _file: False
    ),
    "another source": lambda patch, _: patch.setattr(
        compiling, "source_text", lambda names, of=compiling.source_text: of(names) + b"\n"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_compiled_for_something_else_is_not_loaded(
    started: Callable[..., BpfSource],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: str,
) -> None:
    started()
    CHANGES[change](monkeypatch, tmp_path / "other")
    assert how(started()) == "compiled"
    monkeypatch.undo()


def test_a_kernel_whose_types_differ_has_programs_of_its_own(
    started: Callable[..., BpfSource], cache: Path, tmp_path: Path
) -> None:
    started()
    btf = tmp_path / "btf"
    btf.write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes().replace(b"\0ext4_", b"\0ext5_"))
    source = BpfSource(BpfOptions(program_cache=cache, btf_path=btf, filter_slots=1024))
    source.open()
    assert how(source) == "compiled"
    source.close()


def test_kept_programs_that_the_kernel_does_not_take_are_compiled_again(
    started: Callable[..., BpfSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever could write such a file could do anything; so could an error of ours."""
    text = programs.compiled.as_text

    def broken(compiled: programs.Compiled, macros: dict[str, int]) -> bytes:
        functions = [each._replace(code=bytes(len(each.code))) for each in compiled.functions]
        return text(compiled._replace(functions=tuple(functions)), macros)

    monkeypatch.setattr(programs.compiled, "as_text", broken)
    started()
    monkeypatch.undo()
    assert how(started()) == "compiled"
    assert how(started()) == "kept"


def test_what_the_kernel_refused_is_not_kept(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(compiling.bpf_directory(), tmp_path / "bpf")
    source = tmp_path / "bpf" / "proctree.bpf.c"
    source.write_text(
        source.read_text().replace("int on_rename(", "int unused(")
        + "int on_rename(void *ctx)\n{ u32 k = 1; struct pt_counters *c = counters.lookup(&k);"
        " return c->begun[0]; }\n"
    )
    monkeypatch.setattr(compiling, "bpf_directory", lambda: tmp_path / "bpf")
    with pytest.raises(SourceUnavailableError, match="did not load"):
        BpfSource(options(cache)).open()
    assert not cache.exists()


class TestTheCommand:
    def phases(self, tmp_path: Path, *words: str) -> dict[str, object]:
        file = tmp_path / "stats.json"
        result = run("trace", "-d", "0", "-f", "jsonl", "--stats-file", str(file), *words)
        assert result.code == 0, result.err
        return dict(json.loads(file.read_text()))

    def test_the_statistics_say_which_it_was(self, tmp_path: Path) -> None:
        self.phases(tmp_path)
        second = self.phases(tmp_path)
        assert second["programs"] == "kept"
        seconds = second["startup_seconds"]
        assert isinstance(seconds, dict)
        assert seconds["import_bcc"] == 0

    def test_it_can_be_had_without(self, tmp_path: Path) -> None:
        self.phases(tmp_path)
        assert self.phases(tmp_path, "--no-program-cache")["programs"] == "compiled"
