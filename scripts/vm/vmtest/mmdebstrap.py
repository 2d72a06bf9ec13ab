"""Runs mmdebstrap(1), which makes a root file system; the packages it downloads are kept."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from vmtest.cache import DOWNLOADS, remove
from vmtest.commands import run
from vmtest.debian_packages import ACQUIRE, KEYRING, archive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ARCHIVES = "/var/cache/apt/archives"


def make_root(
    root: Path, suite: str, packages: Iterable[str], options: Iterable[str], *, step: str, log: Path
) -> None:
    """Make the root file system of a suite; options are more ones of mmdebstrap(1).

    What is in the archive no longer is not kept.
    """
    kept, still = DOWNLOADS / suite, DOWNLOADS / f"{suite}.part"
    remove(still)
    for directory in (kept, still):
        directory.mkdir(parents=True, exist_ok=True)
    run(
        step,
        log,
        [
            "mmdebstrap", "--variant=apt", f"--include={','.join(packages)}",
            f"--keyring={KEYRING}",
            *(f'--aptopt={option} "{value}"' for option, value in ACQUIRE.items()),
            # Not removed once they are installed: they are wanted below.
            "--skip=essential/unlink",
            f'--setup-hook=mkdir -p "$1"{_ARCHIVES}',
            f"--setup-hook=sync-in {shlex.quote(str(kept))} {_ARCHIVES}",
            '--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q autoclean',
            f'--customize-hook=rm -rf "$1"{_ARCHIVES}/partial "$1"{_ARCHIVES}/lock',
            f"--customize-hook=sync-out {_ARCHIVES} {shlex.quote(str(still))}",
            *options,
            suite, root, archive(),
        ],
    )  # fmt: skip
    remove(kept)
    still.rename(kept)
