"""What the kernel can decide, and what it is told to look for."""

from __future__ import annotations

import pytest

from proctree_bpf.filters.kernel_plan import plan_kernel_filter
from proctree_bpf.filters.kernel_port import MAX_NAMES, KernelFilterSpec, fits
from proctree_bpf.filters.terms import parse_terms


@pytest.mark.parametrize(
    ("terms", "names", "files"),
    [
        ("ancestor=sshd,cron", ("sshd", "cron"), ()),
        ("ancestor-pid=1", (), ()),
        ("ancestor-exe=/bin/sh", (), ("/bin/sh", "/bin/sh (deleted)")),
        ("ancestor=sshd user=root failed", ("sshd",), ()),
        # The filter here decides among those that any of these follows.
        ("ancestor=sshd ancestor-pid=1", ("sshd",), ()),
        ("ancestor=sshd not-ancestor=cron", ("sshd", "cron"), ()),
        ("ancestor=sh ancestor-exe=/x", ("sh",), ("/x", "/x (deleted)")),
        ("ancestor=sh not-ancestor-exe=x", ("sh",), ()),
    ],
)
def test_it_is_told_whom_to_follow(
    terms: str, names: tuple[str, ...], files: tuple[str, ...]
) -> None:
    plan = plan_kernel_filter(parse_terms(terms), by_parent=False)
    assert plan.spec == KernelFilterSpec(names, files)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ("user=root", "--user cannot be decided in the kernel"),
        ("", "there is no filter"),
        ("not-ancestor=sshd", "only leaves ancestors out"),
        ("ancestor-regex=x", "--ancestor-regex cannot be decided in the kernel"),
        ("ancestor=sshd not-ancestor-regex=x", "--ancestor-regex cannot be decided in the kernel"),
        ("ancestor-exe=/bin/*", "a pattern of --ancestor-exe"),
        ("ancestor-exe=/bin/sh,/bin/[d]ash", "a pattern of --ancestor-exe"),
        (f"ancestor-exe=/{'x' * 255}", "too long"),
        (f"ancestor={','.join(map(str, range(MAX_NAMES + 1)))}", "at most"),
    ],
)
def test_it_is_said_why_it_cannot(terms: str, reason: str) -> None:
    plan = plan_kernel_filter(parse_terms(terms), by_parent=False)
    assert plan.spec is None
    assert reason in plan.reason


def test_parents_are_not_what_it_knows() -> None:
    for of_command in (False, True):
        plan = plan_kernel_filter(parse_terms("ancestor=sh"), by_parent=True, of_command=of_command)
        assert plan.spec is None
        assert "--by-parent" in plan.reason


def test_of_a_command_it_follows_all_whatever_else_is_asked() -> None:
    questions = parse_terms("not-ancestor=sshd ancestor-regex=x user=root")
    assert (
        plan_kernel_filter(questions, by_parent=False, of_command=True).spec == KernelFilterSpec()
    )
    assert plan_kernel_filter((), by_parent=False, of_command=True).spec == KernelFilterSpec()


def test_so_long_a_path_fits() -> None:
    """256 bytes, with a NUL for each component (PT_FILE_ROOM in bpf/proctree.h)."""
    assert fits(f"/{'x' * 127}/{'y' * 127}")
    assert not fits(f"/{'x' * 127}/{'y' * 128}")
