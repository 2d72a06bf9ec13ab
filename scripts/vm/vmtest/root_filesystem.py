"""Root file systems of Debian suites with what the tests need, as directories and as images."""

from __future__ import annotations

import os
import shutil
import tomllib
from typing import TYPE_CHECKING

from vmtest import mmdebstrap
from vmtest.cache import DOWNLOADS, built, fresh_log
from vmtest.commands import fetching, run
from vmtest.failure import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from vmtest.supported import Userland

PACKAGES = (
    "python3", "python3-bpfcc", "gcc", "libc6-dev", "tmux", "util-linux", "util-linux-extra",
    "libcap2-bin", "iproute2", "mount", "procps", "passwd", "strace", "make",
)  # fmt: skip
# Those of the project's needs that are only for its checks: they are not run in a guest.
_CHECKERS = ("mypy", "ruff", "types-", "pytest-randomly")
_PLACE = "/mnt/proctree/src\n"
_IMAGE_SIZE = "2G"
# What Debian 11's kernel does not know.
_FEATURES = "^metadata_csum_seed,^orphan_file,^has_journal"
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def root_of(userland: Userland) -> Path:
    """Return the directory of a root file system."""

    def build(directory: Path) -> None:
        log = fresh_log(f"userland-{userland.suite}")
        step = f"userland {userland.suite}"
        packages = directory / "python-packages"
        with fetching():
            options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
            options.append('--customize-hook=rm -rf "$1"/var/lib/apt/lists "$1"/var/cache/apt')
            mmdebstrap.make_root(
                directory / "root", userland.suite, PACKAGES, options, step=step, log=log
            )
            run(
                f"Python packages for {userland.suite}",
                log,
                [
                    *pip_command("install", userland.python), "--target", packages, *requirements(),
                ],
            )  # fmt: skip
        place = f"usr/local/lib/python{userland.python}/dist-packages"
        path = directory / "proctree.pth"
        path.write_text(_PLACE)
        run(step, log, [*as_owner(), "cp", "-rT", packages, directory / "root" / place])
        run(step, log, [*as_owner(), "cp", path, directory / "root" / place])
        shutil.rmtree(packages)
        path.unlink()

    inputs = [userland, requirements()]
    return built(f"userland-{userland.suite}", inputs, build) / "root"


def image_of(userland: Userland) -> Path:
    """Return an ext4 image of a root file system."""
    source = root_of(userland)

    def build(directory: Path) -> None:
        log = fresh_log(f"image-{userland.suite}")
        place = place_for_owner(directory)
        # Without -d's own mount: no loop device, and no root.
        run(
            f"image {userland.suite}",
            log,
            [
                *as_owner(), "mke2fs", "-q", "-F", "-t", "ext4", "-O", _FEATURES, "-m", "0",
                "-d", source, place / "root.img", _IMAGE_SIZE,
            ],
        )  # fmt: skip
        (place / "root.img").rename(directory / "root.img")
        place.rmdir()

    # That may have been built anew from the same inputs.
    inputs = [source.parent.name, source.parent.stat().st_mtime_ns]
    return built(f"image-{userland.suite}", inputs, build) / "root.img"


def requirements(*, checkers: bool = False) -> list[str]:
    """Return what pyproject.toml says the tests need, with or without the checkers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [need for need in needs if checkers or not need.startswith(_CHECKERS)]


def pip_command(command: str, python: str) -> tuple[str | Path, ...]:
    """Return the words of a command of pip, for wheels of another Python; it keeps them."""
    return (
        "/usr/bin/python3", "-m", "pip", command, "-q", "--cache-dir", DOWNLOADS / "pip",
        "--only-binary=:all:", "--python-version", python, "--implementation", "cp",
    )  # fmt: skip


def as_owner() -> tuple[str, ...]:
    """Return the words that run a command as the owner of the files of a root file system."""
    return () if os.geteuid() == 0 else ("mmdebstrap", "--unshare-helper")


def place_for_owner(directory: Path) -> Path:
    """Make a directory in another in which that owner may write: to us it is another user."""
    place = directory / "place"
    place.mkdir()
    if as_owner():
        place.chmod(0o777)
    return place
