"""Why the kernel refused something, in words, and what would help: one place for all sources."""

from __future__ import annotations

import errno
import os
import resource
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.errors import Refusal, SourceUnavailableError
from proctree_bpf.sources.system.privilege import in_initial_user_namespace, lockdown_mode

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 1 << 20
# What BCC takes is some 260 MiB of addresses, most of it the code of LLVM, which only grows; 25 MiB
# of that is data. Where there is too little, LLVM aborts the process.
_ADDRESSES, _ADDRESSES_ONCE_LOADED, _DATA = 384 * _MIB, 64 * _MIB, 48 * _MIB
_STACK = _MIB // 2  # four times of what has been enough; where it was not, the process crashed
_SHORT = (errno.EMFILE, errno.ENFILE)


class Cause(NamedTuple):
    """What is wrong, and what to do about it: a clause each."""

    reason: str
    remedy: str

    def refusal(self, log: str = "") -> SourceUnavailableError:
        """Return what a source says that cannot be used therefore."""
        return SourceUnavailableError(self.reason, self.remedy, log=log)


def shortage(error: BaseException, log: str = "") -> Cause | None:
    """Say which descriptors are short, if that is what was wrong.

    Of BCC's errors only a text is left, and of the dynamic linker's sometimes only a number.
    """
    number = next((n for n in _SHORT if _is_about(n, error, log)), None)
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return Cause(
            f"this process may have no more than {limit} files open",
            "raise that limit, with 'ulimit -n 1024' or more",
        )
    if number == errno.ENFILE:
        return Cause(
            "this machine can have no more files open",
            "close some, or raise fs.file-max with sysctl(8)",
        )
    return None


def _is_about(number: int, error: BaseException, log: str) -> bool:
    if any(isinstance(each, OSError) and each.errno == number for each in _chain(error)):
        return True
    texts = (log, *map(str, _chain(error)))
    words = (os.strerror(number), f"Error {number}\n")
    return any(word in f"{text}\n" for text in texts for word in words)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def what_helps(error: OSError, otherwise: str) -> str:
    """Return a remedy for an error of any call: what fits it alone, unless files are short."""
    short = shortage(error)
    return otherwise if short is None else f"{short.reason}: {short.remedy}"


@contextmanager
def unavailable_as(
    what: str, remedy: str, refusal: Refusal = Refusal.UNSUPPORTED
) -> Iterator[None]:
    """Raise SourceUnavailableError in the place of any OSError."""
    try:
        yield
    except OSError as error:
        reason = f"{what} ({error.strerror})"
        raise SourceUnavailableError(reason, what_helps(error, remedy), refusal) from error


def forbidden(call: str) -> Cause:
    """Say who forbids a system call to somebody who has the capabilities for it."""
    if not in_initial_user_namespace():
        return Cause(
            "this is a user namespace, whose root has no such rights outside",
            "run it outside, as the root of the host: not in a rootless container",
        )
    mode = lockdown_mode()
    if mode != "none":
        return Cause(f"kernel lockdown is in mode {mode}", "boot without lockdown")
    return Cause(
        "a seccomp filter or a security module forbids it",
        f"run on the host instead of in a container, or have the administrator allow {call}",
    )


def program_refused(error: BaseException, log: str, what: str = "load") -> SourceUnavailableError:
    """Say why a BPF program was not compiled, loaded or attached."""
    text = f"{error}\n{log}"
    short = shortage(error, log)
    if short is not None:
        return short.refusal(text)
    if _is_about(errno.EPERM, error, log) or "EPERM" in text:
        reason, remedy = forbidden("bpf(2)")
        return SourceUnavailableError(
            f"the kernel refused the BPF program (operation not permitted: {reason})",
            remedy,
            log=text,
        )
    if "Failed to compile" in str(error):
        what = "compile"
    return SourceUnavailableError(
        f"the BPF program did not {what} on this kernel",
        "run again with --debug and report what it prints as a bug",
        Refusal.BROKEN,
        text,
    )


def check_room() -> None:
    """Foresee that the compiler, whose process would end, finds too little memory."""
    addresses = _ADDRESSES_ONCE_LOADED if "bcc" in sys.modules else _ADDRESSES
    used, data = _in_use()
    for limit, letter, what, taken, need in (
        (resource.RLIMIT_AS, "v", "address space", used, addresses),
        (resource.RLIMIT_DATA, "d", "data", data, _DATA),
        (resource.RLIMIT_STACK, "s", "stack", 0, _STACK),
    ):
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY and soft - taken < need:
            raise SourceUnavailableError(
                f"the limit of {soft // 1024} KiB for this process's {what} is too low for "
                "BCC's compiler",
                f"raise it to {(taken + need) // 1024} or more, with 'ulimit -{letter} unlimited'",
            )


def _in_use() -> tuple[int, int]:
    """Return the bytes of address space and of data that this process has: proc_pid_statm(5)."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text("ascii").split()
        size = resource.getpagesize()
        return int(pages[0]) * size, int(pages[5]) * size
    return 0, 0
