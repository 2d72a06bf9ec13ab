"""Debian packages of other suites, from the archive that this machine's own apt uses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from vmtest.commands import fetching, run, tail
from vmtest.failure import FailedError, unable

BACKPORTS = "-backports"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

ACQUIRE = {
    "Acquire::Check-Valid-Until": "false",  # old suites keep an old date
    "Acquire::Languages": "none",
}
"""Options of apt, for what it fetches."""

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
        raise unable("archive", "apt knows of no Debian archive: see sources.list(5)")
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
            **ACQUIRE,
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
        return self._matching(pattern, "depends", *_DEPENDS, package)

    def _files(self, download: list[str]) -> set[str]:
        """Return the names that apt-get gives to the files that it downloads."""
        lines = self._answer([*download, "--print-uris"])
        return {words[1] for line in lines if len(words := line.split()) > 1}

    def _matching(self, pattern: str, *query: str) -> list[str]:
        """Return the lines of what apt-cache answers that match the pattern."""
        lines = self._answer(["apt-cache", *self._options, *query])
        found = sorted({line for line in lines if re.fullmatch(pattern, line)})
        if not found:
            what = f"apt-cache {' '.join(query)}"
            raise FailedError(self._step, f"{what} lists no package like {pattern}", self._log)
        return found

    def _answer(self, command: list[str]) -> list[str]:
        """Return the lines that a command of apt's writes."""
        with self._log.open("ab") as errors:
            done = subprocess.run(
                command,
                cwd=self._directory,  # of files that are there already "download" says nothing
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                check=False,
            )
        if done.returncode:
            reason = f"exit status {done.returncode}: {command[0]}\n{tail(self._log)}"
            raise FailedError(self._step, reason, self._log)
        return done.stdout.splitlines()

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
