"""Which cgroups lie below a path: the cgroup v2 hierarchy, by the ids that events carry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from proctree_bpf.sources.system import place

# Where cgroup2 is mounted as a rule: alone, or beside version 1 (cgroups(7), systemd's "hybrid").
_USUAL = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_KIND = "cgroup2"
_OUTSIDE = ".."


class Hierarchy(NamedTuple):
    """Where the cgroup v2 hierarchy is mounted, and which cgroup is there.

    ``top`` is a path as ``/proc/PID/cgroup`` shows it here. It begins with ``/..`` if the
    mount is of another cgroup namespace (cgroup_namespaces(7)).
    """

    mount: Path
    top: str

    @property
    def is_foreign(self) -> bool:
        """Whether paths of this cgroup namespace cannot be found in it."""
        return _OUTSIDE in Path(self.top).parts

    def directory(self, path: str) -> Path | None:
        """Return where a path as ``/proc/PID/cgroup`` shows it should be, if it is below."""
        absolute = Path("/") / path
        if self.is_foreign or not absolute.is_relative_to(self.top):
            return None
        return self.mount / absolute.relative_to(self.top)


def hierarchy() -> Hierarchy | None:
    """Return the mount of the cgroup v2 hierarchy that shows most, or None."""
    # What is mounted later covers what was there, so the last one of a place counts.
    last = {mount.point: mount for mount in place.mounts()}
    found = [Hierarchy(Path(m.point), m.root) for m in last.values() if m.kind == _KIND]
    found.sort(key=lambda each: (each.is_foreign, len(each.top), str(each.mount) not in _USUAL))
    return next((each for each in found if (each.mount / "cgroup.procs").exists()), None)


class CgroupPaths:
    """Answers by looking at the directories, again for each id that was not seen before.

    A cgroup's id is its directory's inode number (kernfs_node.id, Linux 5.5). One that
    was removed before it was asked for is not found.
    """

    def __init__(self, there: Hierarchy | None) -> None:
        self.hierarchy = there
        # By path, then by cgroup id: as many as there are cgroups.
        self._answers: dict[str, dict[int, bool]] = {}

    def directory(self, path: str) -> Path | None:
        """Return the directory of a cgroup path, absolute or from the hierarchy's root."""
        if self.hierarchy is None or "\0" in path:
            return None
        root = self.hierarchy.mount
        given: Path | None = Path(path)
        if not Path(path).is_relative_to(root):
            given = self.hierarchy.directory(path)
        if given is None or not os.path.isdir(given):  # noqa: PTH112 - it refuses no name
            return None
        given = given.resolve()
        return given if given.is_relative_to(root.resolve()) else None

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
        for below, _, _ in os.walk(directory):
            try:
                found.append(Path(below).stat().st_ino)
            except OSError:  # removed meanwhile
                continue
        return found
