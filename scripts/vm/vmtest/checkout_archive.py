"""The archive that a guest is given: the checkout as it is, and the arguments for its pytest."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

from vmtest.failure import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ARGUMENTS = ".vm-arguments"
_NEVER = {".git", ".venv", ".vagrant", ".cache", "__pycache__", "dist", "build"}


def write(archive_path: Path, arguments: Iterable[str]) -> None:
    """Write a tar archive: the files of the checkout, and arguments for pytest, one a line."""
    with tarfile.open(archive_path, "w") as archive:
        for name in sorted(_files()):
            archive.add(ROOT / name, arcname=name, recursive=False)
        text = "".join(f"{argument}\n" for argument in arguments).encode()
        entry = tarfile.TarInfo(ARGUMENTS)
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))


def _files() -> Iterator[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    command.append("--exclude-standard")
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        names = [name for name in listed.split("\0") if name]
    except (FileNotFoundError, subprocess.CalledProcessError):
        # No git; or an unpacked archive, or the checkout of another user.
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    for name in names:
        path = ROOT / name
        if path.is_file() and not _NEVER.intersection(path.relative_to(ROOT).parts):
            yield name
