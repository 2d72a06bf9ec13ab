"""A family of real processes whose shape is known."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Each member tells its role and PID once it has called exec, and ends with our stdin.
_SCRIPT = """
exec 3<&0
"$0" -c 'echo kid $$; read x <&3' "$0" &
"$0" -c '"$0" -c "echo grandkid \\$\\$; read x <&3" "$0" & echo other $$; wait' "$0" &
echo root $$
wait
"""


@dataclass(frozen=True)
class Family:
    """``root`` has two children, ``kid`` and ``other``; ``grandkid`` is ``other``'s child."""

    name: str
    root: int
    kid: int
    other: int
    grandkid: int

    @property
    def pids(self) -> set[int]:
        return {self.root, self.kid, self.other, self.grandkid}


@contextmanager
def living_family(directory: Path, name: str = "prt-family") -> Iterator[Family]:
    """Run a family whose members all have this name (comm)."""
    shell = directory / name
    if not shell.exists():
        shell.symlink_to("/bin/sh")
    with subprocess.Popen(
        [shell, "-c", _SCRIPT, shell],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as root:
        assert root.stdout is not None
        told = dict(root.stdout.readline().split() for _ in range(4))
        yield Family(name, **{role: int(pid) for role, pid in told.items()})
