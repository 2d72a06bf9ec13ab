"""BTF by hand, type by type, and the running kernel's own."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from proctree_bpf.codecs.btf import Btf, Member
from proctree_bpf.errors import DecodeError
from support.btf_blobs import (
    ARRAY,
    CONST,
    DATASEC,
    DECL_TAG,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC,
    FWD,
    HEADER,
    RESTRICT,
    TYPE_TAG,
    VAR,
    VOLATILE,
    BtfBlob,
)

VMLINUX = Path("/sys/kernel/btf/vmlinux")


def offset(btf: Btf, struct_name: str, path: str) -> int:
    member = btf.member(struct_name, path)
    assert member is not None
    return member.offset


class TestByHand:
    def test_a_member_is_found_by_its_name(self) -> None:
        blob = BtfBlob()
        number = blob.integer()
        blob.struct("pair", 8, ("first", number, 0), ("second", number, 32))
        btf = Btf(bytes(blob))
        assert btf.member("pair", "first") == Member(0, 0, number)
        assert btf.member("pair", "second") == Member(32, 0, number)
        assert btf.struct_size("pair") == 8

    @pytest.mark.parametrize(
        ("struct_name", "path"),
        [("pair", "third"), ("nobody", "first"), ("pair", "first.inner"), ("pair", ""), ("", "")],
    )
    def test_what_a_kernel_does_not_have_is_none(self, struct_name: str, path: str) -> None:
        blob = BtfBlob()
        blob.struct("pair", 4, ("first", blob.integer(), 0))
        blob.string("third")
        assert Btf(bytes(blob)).member(struct_name, path) is None

    def test_the_size_of_an_unknown_struct_is_none(self) -> None:
        assert Btf(bytes(BtfBlob())).struct_size("nobody") is None

    def test_a_member_of_an_anonymous_struct_belongs_to_the_outer_one(self) -> None:
        blob = BtfBlob()
        number = blob.integer()
        inner = blob.struct("", 8, ("x", number, 0), ("y", number, 32))
        either = blob.union("", 8, ("z", number, 0), ("", inner, 0))
        blob.struct("outer", 16, ("head", number, 0), ("", either, 64))
        btf = Btf(bytes(blob))
        assert offset(btf, "outer", "y") == 12
        assert offset(btf, "outer", "z") == 8

    def test_a_named_struct_is_entered_by_a_dot_alone(self) -> None:
        blob = BtfBlob()
        number = blob.integer()
        inner = blob.struct("inner", 8, ("x", number, 0), ("y", number, 32))
        blob.struct("outer", 16, ("head", number, 0), ("body", inner, 64))
        btf = Btf(bytes(blob))
        assert offset(btf, "outer", "body.y") == 12
        assert btf.member("outer", "y") is None

    def test_a_path_goes_through_typedefs_and_qualifiers(self) -> None:
        blob = BtfBlob()
        type_id = blob.struct("inner", 8, ("x", blob.integer(), 32))
        for kind in (CONST, VOLATILE, RESTRICT, TYPE_TAG):
            type_id = blob.modifier(kind, type_id)
        type_id = blob.typedef("inner_t", type_id)
        blob.struct("outer", 8, ("body", type_id, 0), ("", type_id, 64))
        btf = Btf(bytes(blob))
        assert offset(btf, "outer", "body.x") == 4
        assert offset(btf, "outer", "x") == 12

    def test_a_pointer_is_not_entered(self) -> None:
        blob = BtfBlob()
        inner = blob.struct("inner", 4, ("x", blob.integer(), 0))
        blob.struct("outer", 8, ("link", blob.pointer(inner), 0))
        assert Btf(bytes(blob)).member("outer", "link.x") is None

    def test_a_bit_field_is_told_with_its_width(self) -> None:
        blob = BtfBlob()
        number = blob.integer()
        blob.struct("flags", 4, ("low", number, 0, 1), ("high", number, 11, 3))
        member = Btf(bytes(blob)).member("flags", "high")
        assert member == Member(11, 3, number)
        assert member.offset == 1

    def test_every_kind_of_type_can_stand_in_between(self) -> None:
        """Each kind has a tail of its own; one wrong length and the rest is lost."""
        blob = BtfBlob()
        number = blob.integer()
        blob.pointer(number)
        blob.add(ARRAY, "", 0, number, number, 16)
        blob.union("either", 4, ("a", number, 0))
        blob.add(ENUM, "colour", 4, blob.string("red"), 0, blob.string("blue"), 1, vlen=2)
        blob.add(FWD, "later", 0)
        blob.typedef("number_t", number)
        for kind in (VOLATILE, CONST, RESTRICT, TYPE_TAG):
            blob.modifier(kind, number)
        prototype = blob.prototype(number, number)
        blob.add(FUNC, "call", prototype)
        variable = blob.add(VAR, "counter", number, 1)
        blob.add(DATASEC, ".data", 4, variable, 0, 4, vlen=1)
        blob.add(FLOAT, "double", 8)
        blob.add(DECL_TAG, "tag", number, 0xFFFFFFFF)
        blob.add(ENUM64, "wide", 8, blob.string("huge"), 1, 2, vlen=1)
        blob.struct("last", 12, ("x", number, 64))
        assert offset(Btf(bytes(blob)), "last", "x") == 8

    def test_the_first_of_several_spellings_is_taken(self) -> None:
        blob = BtfBlob()
        number = blob.integer()
        blob.struct("task", 8, ("old", number, 0), ("older", number, 32))
        btf = Btf(bytes(blob))
        names = [("task", "new"), ("task", "old"), ("task", "older")]
        assert btf.first_member(names) == Member(0, 0, number)
        assert btf.first_member(names[:1]) is None

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_the_parameters_of_a_tracepoint_are_counted(self, count: int) -> None:
        blob = BtfBlob()
        prototype = blob.prototype(*[blob.integer()] * count)
        blob.typedef("btf_trace_x", blob.pointer(prototype))
        assert Btf(bytes(blob)).prototype_arity("btf_trace_x") == count

    def test_what_is_no_function_has_no_parameters(self) -> None:
        blob = BtfBlob()
        blob.typedef("number_t", blob.integer())
        btf = Btf(bytes(blob))
        assert btf.prototype_arity("number_t") is None
        assert btf.prototype_arity("nobody") is None

    def test_a_struct_and_a_typedef_of_one_name_are_not_confused(self) -> None:
        blob = BtfBlob()
        number = blob.integer()
        blob.typedef("thing", number)
        blob.struct("thing", 4, ("x", number, 0))
        btf = Btf(bytes(blob))
        assert btf.struct_size("thing") == 4
        assert btf.prototype_arity("thing") is None

    def test_a_name_inside_a_longer_name_is_not_found(self) -> None:
        blob = BtfBlob()
        number = blob.integer()
        blob.struct("task_struct", 4, ("exit_code_group", number, 0))
        btf = Btf(bytes(blob))
        assert btf.member("task_struct", "code_group") is None
        assert btf.member("task", "exit_code_group") is None

    def test_btf_without_any_type_is_well_formed(self) -> None:
        assert Btf(bytes(BtfBlob())).member("a", "b") is None


class TestMalformed:
    @staticmethod
    def good() -> bytes:
        blob = BtfBlob()
        blob.struct("pair", 8, ("first", blob.integer(), 0))
        return bytes(blob)

    def test_it_may_be_cut_at_no_byte(self) -> None:
        whole = self.good()
        Btf(whole)
        for length in range(len(whole)):
            with pytest.raises(DecodeError):
                Btf(whole[:length])

    def test_bytes_after_the_end_are_no_harm(self) -> None:
        assert Btf(self.good() + b"\xff" * 7).struct_size("pair") == 8

    @pytest.mark.parametrize("magic", [0, 0x9FEB, 0xEB9E])
    def test_another_magic_number_is_refused(self, magic: int) -> None:
        with pytest.raises(DecodeError, match="magic"):
            Btf(struct.pack("=H", magic) + self.good()[2:])

    def test_another_version_is_refused(self) -> None:
        with pytest.raises(DecodeError, match="version 2"):
            Btf(self.good()[:2] + b"\x02" + self.good()[3:])

    def test_a_kind_from_the_future_is_refused(self) -> None:
        blob = BtfBlob()
        blob.add(20, "future", 4)
        with pytest.raises(DecodeError, match="unknown kind"):
            Btf(bytes(blob))

    def test_sections_outside_of_the_file_are_refused(self) -> None:
        whole = self.good()
        fields = list(HEADER.unpack_from(whole))
        for index in (4, 5, 6, 7):
            wrong = [*fields]
            wrong[index] += 2**30
            with pytest.raises(DecodeError):
                Btf(HEADER.pack(*wrong) + whole[HEADER.size :])

    def test_a_member_of_an_unknown_type_is_refused_when_it_is_entered(self) -> None:
        blob = BtfBlob()
        blob.struct("outer", 8, ("body", 77, 0))
        blob.string("x")
        btf = Btf(bytes(blob))
        with pytest.raises(DecodeError, match="no type 77"):
            btf.member("outer", "body.x")

    def test_typedefs_in_a_circle_are_refused(self) -> None:
        blob = BtfBlob()
        blob.typedef("a", 2)
        blob.typedef("b", 1)
        blob.struct("outer", 8, ("body", 1, 0))
        blob.string("x")
        btf = Btf(bytes(blob))
        with pytest.raises(DecodeError, match="circle"):
            btf.member("outer", "body.x")
        with pytest.raises(DecodeError, match="circle"):
            btf.prototype_arity("a")

    def test_a_struct_inside_itself_is_refused(self) -> None:
        blob = BtfBlob()
        blob.struct("outer", 8, ("", 1, 0), ("", 1, 0))
        blob.string("x")
        with pytest.raises(DecodeError, match="without end"):
            Btf(bytes(blob)).member("outer", "x")


@pytest.mark.skipif(not VMLINUX.exists(), reason=f"this kernel has no {VMLINUX}")
class TestThisKernel:
    """Truths that hold on every 64-bit kernel, whatever its configuration."""

    @pytest.fixture(scope="class")
    @classmethod
    def btf(cls) -> Btf:
        return Btf(VMLINUX.read_bytes())

    def test_it_is_understood(self, btf: Btf) -> None:
        size = btf.struct_size("task_struct")
        assert size is not None
        assert size > 1_000

    def test_a_list_is_two_pointers(self, btf: Btf) -> None:
        assert btf.struct_size("list_head") == 16
        assert offset(btf, "list_head", "prev") == 8

    def test_neighbours_in_the_source_are_neighbours_in_memory(self, btf: Btf) -> None:
        assert offset(btf, "task_struct", "tgid") == offset(btf, "task_struct", "pid") + 4
        assert offset(btf, "cred", "gid") == offset(btf, "cred", "uid") + 4
        assert offset(btf, "path", "dentry") == offset(btf, "path", "mnt") + 8

    def test_a_name_in_an_anonymous_union_is_found(self, btf: Btf) -> None:
        assert offset(btf, "qstr", "hash") == offset(btf, "qstr", "len") - 4

    def test_every_member_lies_within_its_struct(self, btf: Btf) -> None:
        for struct_name, path in (
            ("task_struct", "comm"),
            ("task_struct", "start_boottime"),
            ("signal_struct", "group_exit_code"),
            ("mm_struct", "arg_end"),
            ("dentry", "d_name.name"),
        ):
            size = btf.struct_size(struct_name)
            assert size is not None
            assert 0 < offset(btf, struct_name, path) < size

    def test_a_tracepoint_has_the_probe_and_its_own_arguments(self, btf: Btf) -> None:
        assert btf.prototype_arity("btf_trace_sched_process_fork") == 3
        assert btf.prototype_arity("btf_trace_sched_process_exec") == 4
        assert btf.prototype_arity("btf_trace_sched_process_exit") in {2, 3}
