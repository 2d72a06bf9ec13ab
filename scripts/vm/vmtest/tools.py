"""Installs what scripts/vm needs, as the project's other scripts do."""

from __future__ import annotations

import os
import subprocess
import sys

from vmtest.failure import ROOT

_SETUP = ROOT / "scripts" / "lib" / "setup.sh"


def install_tools(level: str) -> None:
    """Install what is missing for a level of setup.sh, or end with what it says."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", '. "$0"; install_packages "$1"', _SETUP, level],
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)
    # Where Debian has what makes file systems, and users do not look for it.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
