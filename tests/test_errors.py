"""The tree of exceptions: what it says, and what programs that catch the built-in ones rely on."""

from __future__ import annotations

import pytest

from proctree_bpf import errors
from proctree_bpf.codecs.cn_proc import ConnectorError
from proctree_bpf.errors import (
    DecodeError,
    FilterError,
    NoSuchProcessError,
    ProctreeError,
    SourceFailedError,
    SourceUnavailableError,
)

RAISED = {
    SourceUnavailableError: Exception,
    SourceFailedError: Exception,
    NoSuchProcessError: LookupError,
    FilterError: ValueError,
    DecodeError: ValueError,
    ConnectorError: Exception,
}


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_everything_that_is_raised_is_a_proctree_error(kind: type[Exception]) -> None:
    assert issubclass(kind, ProctreeError)
    assert issubclass(kind, RAISED[kind])


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_the_drawing_has_every_one_of_them(kind: type[Exception]) -> None:
    assert errors.__doc__ is not None
    assert f"─ {kind.__name__}" in errors.__doc__


def test_no_error_of_ours_is_an_os_error() -> None:
    """Or a failed source would pass for an output that cannot be written."""
    assert not any(issubclass(kind, OSError) for kind in RAISED)
