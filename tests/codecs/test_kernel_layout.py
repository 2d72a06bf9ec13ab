from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest

from proctree_bpf.codecs.btf import Btf
from proctree_bpf.codecs.kernel_layout import MissingFieldError, layout_macros
from proctree_bpf.codecs.sample_decoder import MAX_COPIES
from support.btf_blobs import VAR, BtfBlob, kernel_like

VMLINUX = Path("/sys/kernel/btf/vmlinux")
PROGRAMS = sorted((Path(__file__).parents[2] / "bpf").glob("*.[ch]"))


def macros_of(blob: BtfBlob) -> dict[str, int]:
    return layout_macros(Btf(bytes(blob)))


def test_every_member_gets_a_macro_with_its_offset() -> None:
    macros = macros_of(kernel_like())
    assert macros["OFF_TASK_PID"] == 0
    assert macros["OFF_TASK_TGID"] == 8
    assert macros["OFF_MM_ARG_END"] == 8
    assert macros["UPID_SIZE"] == 8


def test_a_nested_member_gets_the_offset_from_the_outermost_struct() -> None:
    assert macros_of(kernel_like())["OFF_DENTRY_NAME"] == 8


@pytest.mark.parametrize(
    "missing",
    [
        ("task_struct", "tgid"),
        ("task_struct", "start_boottime"),
        ("signal_struct", "group_exit_code"),
        ("dentry", "d_name"),
        ("qstr", "name"),
        ("kernfs_node", "id"),
        ("upid", "nr"),
    ],
    ids=".".join,
)
def test_a_missing_member_is_named(missing: tuple[str, str]) -> None:
    struct_name, member = missing
    shown = "dentry.d_name.name" if struct_name in {"dentry", "qstr"} else f"{struct_name}.{member}"
    with pytest.raises(MissingFieldError, match=shown):
        macros_of(kernel_like(without=missing))


def test_a_kernel_without_any_type_lacks_the_first_member() -> None:
    with pytest.raises(MissingFieldError, match=r"task_struct\.pid"):
        macros_of(BtfBlob())


def test_the_old_name_of_the_start_time_will_do() -> None:
    blob = kernel_like(
        without=("task_struct", "start_boottime"), extra={"task_struct": ["real_start_time"]}
    )
    assert macros_of(blob)["OFF_TASK_START"] == 8 * 11


def test_the_new_name_of_the_start_time_is_preferred() -> None:
    blob = kernel_like(extra={"task_struct": ["real_start_time"]})
    assert macros_of(blob)["OFF_TASK_START"] == macros_of(kernel_like())["OFF_TASK_START"]


@pytest.mark.parametrize(("parameters", "has_it"), [(1, False), (2, True)])
def test_group_dead_is_used_where_the_tracepoint_has_it(parameters: int, *, has_it: bool) -> None:
    macros = macros_of(kernel_like(exit_parameters=parameters))
    assert ("HAVE_GROUP_DEAD" in macros) is has_it


def test_programs_that_may_be_skipped_are_attached_more_than_once() -> None:
    blob = kernel_like()
    assert "COPIES" not in macros_of(blob)
    blob.add(VAR, "tracepoint_srcu_srcu_data", 1, 0)
    assert macros_of(blob)["COPIES"] == MAX_COPIES


def test_the_flag_of_an_exec_in_progress_gets_a_byte_and_a_mask() -> None:
    macros = macros_of(kernel_like(flags={"task_struct": {"in_execve": 11}}))
    assert (macros["IN_EXECVE_OFF"], macros["IN_EXECVE_MASK"]) == (8 * 12 + 1, 1 << 3)


def test_a_kernel_without_that_flag_will_do() -> None:
    assert "IN_EXECVE_OFF" not in macros_of(kernel_like())


class TestWhoAdopts:
    MEMBERS: ClassVar = {
        "task_struct": ["children"],
        "signal_struct": ["nr_threads"],
        "upid": ["ns"],
        "pid_namespace": ["child_reaper"],
    }
    FLAGS: ClassVar = {"is_child_subreaper": 3, "has_child_subreaper": 12}

    def macros(self, missing: str = "") -> dict[str, int]:
        extra = {
            struct: [name for name in names if name != missing]
            for struct, names in self.MEMBERS.items()
        }
        bits = {name: bit for name, bit in self.FLAGS.items() if name != missing}
        return macros_of(kernel_like(extra=extra, flags={"signal_struct": bits}))

    def test_the_flags_of_subreapers_get_bytes_and_masks(self) -> None:
        macros = self.macros()
        assert (macros["IS_SUBREAPER_OFF"], macros["IS_SUBREAPER_MASK"]) == (8 * 5, 1 << 3)
        assert (macros["HAS_SUBREAPER_OFF"], macros["HAS_SUBREAPER_MASK"]) == (8 * 5 + 1, 1 << 4)
        assert macros["OFF_UPID_NS"] == 8
        assert macros["HAVE_REAPER"]

    def test_flags_that_are_bytes_of_their_own_will_do(self) -> None:
        extra = {**self.MEMBERS, "signal_struct": ["nr_threads", *self.FLAGS]}
        macros = macros_of(kernel_like(extra=extra))
        assert (macros["IS_SUBREAPER_OFF"], macros["IS_SUBREAPER_MASK"]) == (8 * 5, 0xFF)
        assert (macros["HAS_SUBREAPER_OFF"], macros["HAS_SUBREAPER_MASK"]) == (8 * 6, 0xFF)
        assert macros["HAVE_REAPER"]

    @pytest.mark.parametrize(
        "missing", [*(name for names in MEMBERS.values() for name in names), *FLAGS]
    )
    def test_where_a_member_is_missing_it_is_not_told(self, missing: str) -> None:
        added = self.macros().keys() - macros_of(kernel_like()).keys()
        assert "HAVE_REAPER" in added
        assert not added & self.macros(missing).keys()


@pytest.mark.skipif(not VMLINUX.exists(), reason=f"this kernel has no {VMLINUX}")
class TestThisKernel:
    @pytest.fixture(scope="class")
    @classmethod
    def macros(cls) -> dict[str, int]:
        return layout_macros(Btf(VMLINUX.read_bytes()))

    def test_it_has_all_that_the_program_needs(self, macros: dict[str, int]) -> None:
        assert macros.keys() >= macros_of(kernel_like(exit_parameters=1)).keys()
        assert all(value >= 0 for value in macros.values())

    def test_it_tells_who_adopts(self, macros: dict[str, int]) -> None:
        assert macros["HAVE_REAPER"]

    def test_the_program_asks_for_no_macro_that_nobody_defines(
        self, macros: dict[str, int]
    ) -> None:
        asked = set(re.findall(r"\bOFF_[A-Z_]+\b", "".join(p.read_text() for p in PROGRAMS)))
        assert asked <= macros.keys()

    def test_offsets_agree_with_what_every_kernel_has_in_common(
        self, macros: dict[str, int]
    ) -> None:
        assert macros["OFF_TASK_TGID"] - macros["OFF_TASK_PID"] == 4
        assert macros["OFF_MM_ARG_END"] - macros["OFF_MM_ARG_START"] == 8
        assert macros["OFF_CRED_GID"] - macros["OFF_CRED_UID"] == 4
        assert (macros["OFF_PATH_MNT"], macros["OFF_PATH_DENTRY"]) == (0, 8)
        assert (macros["OFF_UPID_NR"], macros["UPID_SIZE"]) == (0, 16)
        assert macros["OFF_VFSMOUNT_ROOT"] == 0
