"""What this package raises: one tree, with ``ProctreeError`` above all.

::

    ProctreeError
     ├── SourceUnavailableError            a source of events cannot be opened
     ├── SourceFailedError                 a source broke while it ran
     ├── NoSuchProcessError (LookupError)  the tree knows no such process
     ├── FilterError (ValueError)          a filter cannot be understood or used
     ├── DecodeError (ValueError)          bytes that are not what they should be
     └── ConnectorError                    the names of the proc-connector crate, in ``compat``

Beside these, a call that is itself wrong raises ``ValueError``, ``TypeError`` or
``RuntimeError`` as anywhere in Python. An ``OSError`` leaves only what is documented to
raise one: the functions of ``compat`` and ``ProcConnector``.

>>> issubclass(NoSuchProcessError, ProctreeError), issubclass(NoSuchProcessError, LookupError)
(True, True)

Pure: every other file may import this one, and it imports none of them.
"""

from __future__ import annotations

from enum import Enum


class ProctreeError(Exception):
    """Anything that this package raises on its own account."""


class Refusal(Enum):
    """Why a source cannot be used."""

    PRIVILEGE = "privilege"
    """The caller lacks a privilege; with it, the source may work."""
    UNSUPPORTED = "unsupported"
    """This machine does not offer it."""
    BROKEN = "broken"
    """It should have worked: a fault of this program or of an unknown kernel."""
    BAD_DATA = "bad data"
    """A file that it should read is not what it should be."""


class SourceUnavailableError(ProctreeError):
    """A source cannot be opened.

    Attributes:
        reason: one clause, without a capital or a full stop.
        remedy: what to do about it, in the same form.
        refusal: which kind of reason it is.
        log: what the compiler or the verifier said, for a bug report.

    """

    def __init__(
        self, reason: str, remedy: str, refusal: Refusal = Refusal.UNSUPPORTED, log: str = ""
    ) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy
        self.refusal = refusal
        self.log = log


class SourceFailedError(ProctreeError):
    """A source that was open has broken; nothing more can be had of it.

    Attributes:
        reason: what failed, one clause, without a capital or a full stop.
        remedy: what to do about it, in the same form.

    """

    def __init__(self, reason: str, remedy: str = "report this as a bug") -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class NoSuchProcessError(ProctreeError, LookupError):
    """The tree knows no such process, or knows it no more.

    Attributes:
        pid: the PID that was asked for.

    """

    def __init__(self, pid: int) -> None:
        super().__init__(f"no process {pid} is known")
        self.pid = pid


class FilterError(ProctreeError, ValueError):
    """A filter that cannot be understood or used; the message is one clause.

    Attributes:
        is_unsupported: the filter is well, but what it asks cannot be told here.

    """

    def __init__(self, clause: str, *, is_unsupported: bool = False) -> None:
        super().__init__(clause)
        self.is_unsupported = is_unsupported


class DecodeError(ProctreeError, ValueError):
    """Bytes that do not have the shape their format asks for.

    Every codec raises this and nothing else for malformed input.
    """
