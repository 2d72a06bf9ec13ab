"""Debian packages of other suites, from the archive that this machine's own apt uses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from failure import FailedError, fetching, run

BACKPORTS = "-backports"
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
    """The packages of one suite, with their lists in a directory of their own.

    Backports come with the suite for which they are made.
    """

    def __init__(self, suite: str, directory: Path, log: Path) -> None:
        self._step = f"packages of {suite}"
        self._log = log
        self._directory = directory
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (directory / name).mkdir(parents=True)
        (directory / "status").touch()
        sources = directory / "sources.list"
        source = f"deb [signed-by={KEYRING}] {archive()}"
        suites = dict.fromkeys((suite.removesuffix(BACKPORTS), suite))
        sources.write_text("".join(f"{source} {each} main\n" for each in suites))
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

    def named(self, pattern: str) -> list[str]:
        """Return the packages whose names match the pattern."""
        return self._matching(pattern, "pkgnames")

    def needed_by(self, package: str, pattern: str) -> list[str]:
        """Return those of a package and of all that it needs whose names match the pattern."""
        found = self._matching(pattern, "depends", *_DEPENDS, package)
        if not found:
            raise FailedError(self._step, f"nothing like {pattern} below {package}", self._log)
        return found

    def _files(self, download: list[str]) -> set[str]:
        """Return the names that apt-get gives to the files that it downloads."""
        listed = subprocess.run(
            [*download, "--print-uris"],
            cwd=self._directory,  # of files that are there already it says nothing
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return {words[1] for line in listed.splitlines() if len(words := line.split()) > 1}

    def _matching(self, pattern: str, *query: str) -> list[str]:
        """Return the lines of what apt-cache answers that match the pattern."""
        answer = subprocess.run(
            ["apt-cache", *self._options, *query], capture_output=True, text=True, check=False
        ).stdout
        return sorted({line for line in answer.splitlines() if re.fullmatch(pattern, line)})

    def unpack(self, names: list[str], root: Path, kept: Path) -> None:
        """Unpack the files of packages, which are kept in a directory, and nothing else in it.

        What is there already and has not changed is not downloaded.
        """
        kept.mkdir(parents=True, exist_ok=True)
        download = ["apt-get", *self._options, "-q", "download", *names]
        with fetching():
            run(self._step, self._log, download, directory=kept)
        wanted = self._files(download)
        for package in sorted(kept.iterdir()):
            if package.name in wanted:
                run(self._step, self._log, ["dpkg", "-x", package, root])
            else:
                package.unlink()
