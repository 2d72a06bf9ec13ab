"""What lies among kept programs is loaded only if nobody else can have put it there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf.sources.loading import program_cache
from proctree_bpf.sources.loading.program_cache import MOST_FILES, ProgramCache, default_directory

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, CONTENT = b"a kernel, a source", b"programs" * 1000
_ANOTHER_USER = 12_345


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "below" / "cache"


@pytest.fixture
def cache(directory: Path) -> ProgramCache:
    """A directory in which something is kept."""
    cache = ProgramCache(directory)
    assert cache.load(KEY) is None
    assert cache.store(KEY, CONTENT)
    assert cache.load(KEY) == CONTENT
    return cache


def the_file(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def test_only_we_can_read_and_write_what_is_kept(cache: ProgramCache, directory: Path) -> None:
    assert cache.load(b"another key") is None
    assert the_file(directory).stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_what_is_stored_takes_the_place_of_what_was_there(cache: ProgramCache) -> None:
    assert cache.store(KEY, b"other programs")
    assert cache.load(KEY) == b"other programs"


def _flipped(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)


def _linked(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def _named_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def _of_another_key(file: Path) -> None:
    other = ProgramCache(file.parent)
    other.store(b"another key", CONTENT)
    (found,) = (path for path in file.parent.iterdir() if path != file)
    found.rename(file)


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: os.truncate(file, file.stat().st_size - 1),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "a flipped bit": _flipped,
    "garbage": lambda file: file.write_bytes(os.urandom(10_000)),
    "a link": _linked,
    "a pipe": _named_pipe,
    "a directory": lambda file: (file.unlink(), file.mkdir()),
    "of another key": _of_another_key,
    "for the group to write": lambda file: file.chmod(0o620),
    "for all to write": lambda file: file.chmod(0o602),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_is_not_beyond_doubt_is_not_loaded(
    cache: ProgramCache, directory: Path, how: str
) -> None:
    BROKEN[how](the_file(directory))
    assert cache.load(KEY) is None


@pytest.mark.parametrize("how", [how for how in BROKEN if how != "a directory"])
def test_and_another_one_takes_its_place(cache: ProgramCache, directory: Path, how: str) -> None:
    BROKEN[how](the_file(directory))
    assert cache.store(KEY, CONTENT)
    assert cache.load(KEY) == CONTENT


def _link_to(directory: Path) -> None:
    moved = directory.with_name("moved")
    directory.rename(moved)
    directory.symlink_to(moved)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a link": _link_to,
    "a link on the way": lambda directory: _link_to(directory.parent),
    "for the group to write": lambda directory: directory.chmod(0o770),
    "for all to write": lambda directory: directory.chmod(0o707),
    "for all to write, sticky": lambda directory: directory.chmod(0o1707),
    "for all to write on the way": lambda directory: directory.parent.chmod(0o707),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_directory_that_others_can_write_to_is_neither_read_nor_written(
    cache: ProgramCache, directory: Path, how: str
) -> None:
    HOSTILE[how](directory)
    before = sorted(directory.iterdir())
    assert cache.load(KEY) is None
    assert not cache.store(KEY, CONTENT)
    assert sorted(directory.iterdir()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("whose", ["the file", "the directory", "the one above it"])
def test_what_is_another_users_is_not_loaded(
    cache: ProgramCache, directory: Path, whose: str
) -> None:
    paths = {
        "the file": the_file(directory),
        "the directory": directory,
        "the one above it": directory.parent,
    }
    os.chown(paths[whose], _ANOTHER_USER, -1)
    assert cache.load(KEY) is None
    assert cache.store(KEY, CONTENT) == (whose == "the file")


def test_a_file_in_the_place_of_the_directory_is_nothing_to_fail_of(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    cache = ProgramCache(tmp_path / "cache")
    assert cache.load(KEY) is None
    assert not cache.store(KEY, CONTENT)


def test_a_full_disk_is_nothing_to_fail_of(
    cache: ProgramCache, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_directory: int, name: str, _whole: bytes) -> None:
        (directory / name).write_bytes(b"the beginning")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(program_cache, "_write", full)
    assert not cache.store(b"another key", CONTENT)
    assert cache.load(KEY) == CONTENT
    assert len(list(directory.iterdir())) == 1


def test_only_so_many_are_kept_and_the_oldest_go_first(directory: Path) -> None:
    cache = ProgramCache(directory)
    keys = [f"kernel {number}".encode() for number in range(MOST_FILES + 3)]
    for second, key in enumerate(keys):
        assert cache.store(key, CONTENT)
        newest = max(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (second, second))
    kept = [key for key in keys if cache.load(key)]
    assert kept == keys[3:]
    assert len(list(directory.iterdir())) == MOST_FILES


class TestWhere:
    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
    def test_the_environment_has_no_say_for_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/of-a-stranger")
        monkeypatch.setenv("HOME", "/tmp/of-a-stranger")
        assert default_directory() == Path("/var/cache/proctree-bpf")

    @pytest.mark.parametrize(
        ("variables", "directory"),
        [
            ({"XDG_CACHE_HOME": "/x", "HOME": "/home/u"}, "/x/proctree-bpf"),
            ({"XDG_CACHE_HOME": "", "HOME": "/home/u"}, "/home/u/.cache/proctree-bpf"),
            ({"XDG_CACHE_HOME": "relative", "HOME": "/home/u"}, "/home/u/.cache/proctree-bpf"),
            ({"XDG_CACHE_HOME": "", "HOME": "relative"}, None),
        ],
    )
    def test_another_user_has_it_among_other_caches(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], directory: str | None
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert default_directory() == (None if directory is None else Path(directory))
