"""Which cgroups lie below a path: the cgroup v2 hierarchy, by the ids that records carry."""

from __future__ import annotations

import os
from pathlib import Path

# Where cgroup2 is mounted: alone, or beside version 1 (cgroups(7), systemd's "hybrid").
_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def cgroup_root() -> Path | None:
    """Return where the cgroup v2 hierarchy is mounted, or None."""
    for mount in map(Path, _MOUNTS):
        if (mount / "cgroup.procs").exists() and (mount / "cgroup.controllers").exists():
            return mount
    return None


class CgroupPaths:
    """Answers by looking at the directories, again for each id that was not seen before.

    A cgroup's id is its directory's inode number (kernfs_node.id, Linux 5.5). One that
    was removed before it was asked for is not found.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        # By path, then by cgroup id: as many as there are cgroups.
        self._answers: dict[str, dict[int, bool]] = {}

    def directory(self, path: str) -> Path | None:
        """Return the directory of a cgroup path, absolute or from the hierarchy's root."""
        if self._root is None:
            return None
        given = Path(path)
        if not given.is_relative_to(self._root):
            given = self._root / path.lstrip("/")
        if "\0" in path or not os.path.isdir(given):  # noqa: PTH112 - it refuses no name
            return None
        given = given.resolve()
        return given if given.is_relative_to(self._root.resolve()) else None

    def __call__(self, path: str, cgroup_id: int) -> bool:
        """Tell whether a cgroup is the one of ``path`` or below it."""
        answers = self._answers.setdefault(path, {})
        answer = answers.get(cgroup_id)
        if answer is None:
            answers.update(dict.fromkeys(self._below(path), True))
            answer = answers.setdefault(cgroup_id, False)
        return answer

    def _below(self, path: str) -> list[int]:
        directory = self.directory(path)
        if directory is None:
            return []
        found = []
        for place, _, _ in os.walk(directory):
            try:
                found.append(Path(place).stat().st_ino)
            except OSError:  # removed meanwhile
                continue
        return found
