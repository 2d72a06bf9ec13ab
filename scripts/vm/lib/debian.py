"""Debian packages of other suites, from the archive that this machine's own apt uses."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from failure import FailedError, fetching, run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_DEPENDS = (
    "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
    "--no-breaks", "--no-replaces", "--no-enhances",
)  # fmt: skip


def archive() -> str:
    """Return the address of the archive, as apt is configured."""
    # Not "indextargets": it shows nothing where no lists have been downloaded yet.
    listed = subprocess.run(
        ["apt-get", "--print-uris", "update"], capture_output=True, text=True, check=False
    ).stdout
    found = re.findall(r"^'([^']*/debian/)dists/[^/']*/InRelease'", listed, re.MULTILINE)
    if not found:
        with fetching():
            raise FailedError("archive", "apt knows of no Debian archive: see sources.list(5)")
    return str(found[0])


class Packages:
    """The packages of one suite, with lists and downloads in a directory of their own."""

    def __init__(self, suite: str, directory: Path, log: Path) -> None:
        self._step = f"packages of {suite}"
        self._log = log
        self._downloads = directory / "downloads"
        self._downloads.mkdir(parents=True)
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (directory / name).mkdir(parents=True)
        (directory / "status").touch()
        sources = directory / "sources.list"
        sources.write_text(f"deb [signed-by={KEYRING}] {archive()} {suite} main\n")
        settings = {
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": directory / "parts",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": directory / "parts",
            "Dir::State::Lists": directory / "lists",
            "Dir::State::status": directory / "status",
            "Dir::Cache": directory / "cache",
            # Old suites keep an old date.
            "Acquire::Check-Valid-Until": "false",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "",
            "APT::Architecture": "amd64",
        }
        self._options = [
            word for pair in settings.items() for word in ("-o", "=".join(map(str, pair)))
        ]
        update = ["-q", "update", "-o", "APT::Update::Error-Mode=any"]
        with fetching():
            run(self._step, log, ["apt-get", *self._options, *update])

    def needed_by(self, package: str, pattern: str) -> list[str]:
        """Return those of all packages that this one needs whose names match the pattern."""
        listed = subprocess.run(
            ["apt-cache", *self._options, "depends", *_DEPENDS, package],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        found = sorted({line for line in listed.splitlines() if re.fullmatch(pattern, line)})
        if not found:
            raise FailedError(self._step, f"nothing like {pattern} below {package}", self._log)
        return found

    def unpack(self, names: list[str], root: Path) -> None:
        """Download packages and unpack their files."""
        here = Path.cwd()
        os.chdir(self._downloads)
        try:
            with fetching():
                run(self._step, self._log, ["apt-get", *self._options, "-q", "download", *names])
        finally:
            os.chdir(here)
        for package in sorted(self._downloads.iterdir()):
            run(self._step, self._log, ["dpkg", "-x", package, root])
            package.unlink()
