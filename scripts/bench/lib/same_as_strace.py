"""Debian source packages, built under strace and under us: what is told must be the same.

The sources are fetched with apt-get, without a change to the system's own lists, configured,
and made with make -j4 twice from equal copies: once under strace -f -e trace=process, once
under proctree-bpf trace. The multiset of processes, each with the arguments of every program
that it became and its exit status, must be the same.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from context import ROOT, say
from figures import Figure, NotRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from context import Bench

_PACKAGES = ("zlib", "hello")
_MOST_SHOWN = 20
_SOURCES = """\
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def _run(words: list[str], directory: Path) -> None:
    env = {"PATH": os.defpath, "HOME": str(directory)}
    subprocess.run(
        words, cwd=directory, env=env, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _fetch(packages: tuple[str, ...], directory: Path) -> None:
    """Unpack the sources of packages below a directory."""
    lines = Path("/etc/os-release").read_text().splitlines()
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    sources = directory / "list.sources"
    sources.write_text(_SOURCES.format(suite=release["VERSION_CODENAME"]))
    (directory / "lists" / "partial").mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
    }
    words = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
    for command in (["update"], ["source", *packages]):
        _run([*words, *command], directory)


def _make(before: list[str], source: Path) -> None:
    """Build a fresh copy, always at the same path, under another command."""
    place = source.with_name("build")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place, symlinks=True)
    _run([*before, "make", "-j4"], place)


def _compare(bench: Bench, lifetimes: Any, package: str, directory: Path) -> Figure:
    (source,) = (path for path in directory.glob(f"{package}-*") if path.is_dir())
    say(f"{source.name}: configuring ...")
    _run(["./configure"], source)
    log, records = directory / "log", directory / "records"
    _make([*lifetimes.STRACE, *lifetimes.STRACE_STRINGS, "-o", str(log)], source)
    theirs = lifetimes.told_by_strace(log, source)
    options = ["-f", "jsonl", "-o", str(records), "--max-args-bytes", "32768", "--"]
    _make([bench.program, "trace", *options], source)
    ours = lifetimes.told_by_us(json.loads(line) for line in records.read_text().splitlines())
    differences = lifetimes.difference(ours, theirs)
    for line in differences[:_MOST_SHOWN]:
        say(f"  {line}")
    programs = sum(count * len(life.programs) for life, count in ours.items())
    note = f"of {sum(ours.values())} processes with {programs} execs"
    return Figure(f"{source.name}: differences", "", [len(differences)], note=note)


def _lifetimes() -> Any:
    """Return the module of the tests that reads both."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        return importlib.import_module("support.lifetimes")
    finally:
        sys.path.pop(0)


def same_as_strace(bench: Bench) -> Iterator[Figure]:
    """Build and compare.

    Raises:
        NotRunError: something that it needs is missing.
        RuntimeError: there are differences.

    """
    for program in ("strace", "make", "cc", "apt-get", "dpkg-source"):
        if shutil.which(program) is None:
            raise NotRunError(f"it needs {program}")
    directory = bench.place("same-as-strace")
    try:
        _fetch(_PACKAGES, directory)
    except subprocess.CalledProcessError as error:
        raise NotRunError(f"the sources cannot be fetched: {error}") from error
    differences = 0.0
    for package in _PACKAGES:
        figure = _compare(bench, _lifetimes(), package, directory)
        differences += sum(figure.samples)
        yield figure
    if differences:
        raise RuntimeError(f"{differences:.0f} differences")
