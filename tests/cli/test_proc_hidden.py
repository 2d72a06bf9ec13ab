"""/proc that is not there, and /proc that hides other users' processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.living_family import Family, living_family
from support.program import AS_NOBODY, in_own_mounts, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.kernel

_NO_PROC = {
    "unmounted": in_own_mounts("umount -l /proc"),
    "empty": in_own_mounts("mount -t tmpfs none /proc"),
}
_HIDEPID = {
    level: [*in_own_mounts(f"mount -t proc -o hidepid={level} proc /proc"), *AS_NOBODY]
    for level in (1, 2)
}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    with living_family(tmp_path_factory.mktemp("family")) as members:
        yield members


@pytest.mark.parametrize("how", _NO_PROC)
@pytest.mark.parametrize(
    "words",
    [("tree",), ("chain", "1"), ("find", "--cmd", "sh"), ("trace", "-d", "0")],
    ids=" ".join,
)
def test_without_proc_the_way_to_mount_it_is_told(how: str, words: Sequence[str]) -> None:
    result = run(*words, before=_NO_PROC[how])
    assert (result.code, result.out) == (69, "")
    assert "mount -t proc" in result.sentence()


@pytest.mark.parametrize("level", [1, 2])
def test_a_tree_of_what_hidepid_leaves_says_that_it_is_not_all(level: int, family: Family) -> None:
    result = run("tree", before=_HIDEPID[level])
    assert result.code == 0
    assert "hidepid" in result.err
    assert len(result.err.splitlines()) == 1
    assert f"({family.root})" not in result.out


def test_a_process_hidden_by_hidepid_is_unknown(family: Family) -> None:
    result = run("chain", str(family.root), before=_HIDEPID[2])
    assert (result.code, result.out) == (1, "")
    assert "hidepid" in result.err
    assert str(family.root) in result.err.splitlines()[-1]
    assert "Traceback" not in result.err


def test_hidepid_hides_nothing_from_root(family: Family) -> None:
    result = run("chain", str(family.root), before=_HIDEPID[2][: -len(AS_NOBODY)])
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"{family.root}|{family.name}|")
    assert f";{os.getpid()}|" in result.out
