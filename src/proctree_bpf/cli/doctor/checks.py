"""The checks of ``doctor``: what BPF and each source need, tried for real."""

from __future__ import annotations

import ctypes
import importlib.util
import resource
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf.cli.doctor.environment import ENVIRONMENT_CHECKS
from proctree_bpf.cli.doctor.finding import Finding, failed, passed, warned
from proctree_bpf.codecs.btf import Btf
from proctree_bpf.codecs.kernel_layout import TRACEPOINTS, MissingFieldError, layout_macros
from proctree_bpf.core.events import Exec, Fork
from proctree_bpf.errors import DecodeError, SourceFailedError, SourceUnavailableError
from proctree_bpf.sources.bpf import BTF_PATH, BpfOptions
from proctree_bpf.sources.choose import LIVE, SourceOptions, candidates
from proctree_bpf.sources.loading.bcc_program import BccError, import_bcc
from proctree_bpf.sources.system import privilege
from proctree_bpf.sources.system.causes import what_helps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proctree_bpf.core.events import ProcEvent
    from proctree_bpf.sources.base import EventSource

_PROOF_SECONDS = 3.0


def _check_bcc() -> Finding:
    try:
        bcc = import_bcc()
    except BccError as error:
        return failed(error.reason, error.remedy)
    return passed(f"{getattr(bcc, '__version__', 'unknown version')}, {bcc.__file__}")


def _check_shadow() -> Finding:
    """Look for the other project named bcc wherever Python would look."""
    spec = importlib.util.find_spec("bcc")
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    if origin is None or (origin.parent / "libbcc.py").exists():
        return passed("Python finds no other module of that name first")
    return warned(f"{origin} belongs to an unrelated project, not to BCC", "pip uninstall bcc")


def _check_libbcc() -> Finding:
    name = "libbcc.so.0"  # as bcc loads it; find_library would run compilers that PATH names
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return failed(str(error), "apt-get install libbpfcc (Fedora: dnf install bcc)")
    return passed(name)


def _check_btf() -> Finding:
    remedy = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    try:
        macros = layout_macros(Btf(BTF_PATH.read_bytes()))
    except OSError as error:
        remedy = what_helps(error, remedy)
        return failed(f"{BTF_PATH}: {error.strerror}", remedy)
    except (DecodeError, MissingFieldError) as error:
        return failed(f"{BTF_PATH}: {error}", remedy)
    return passed(f"{BTF_PATH}, {len(macros)} offsets found")


def _check_tracepoints() -> Finding:
    """BTF names every tracepoint, so tracefs need not be mounted."""
    try:
        btf = Btf(BTF_PATH.read_bytes())
    except (OSError, DecodeError):
        return warned("cannot be checked without BTF", "see BTF above")
    missing = [name for name in TRACEPOINTS if btf.prototype_arity(f"btf_trace_{name}") is None]
    if missing:
        return failed(
            f"not in this kernel: {', '.join(missing)}",
            "use a kernel built with CONFIG_TRACEPOINTS=y",
        )
    return passed(", ".join(TRACEPOINTS))


def _check_capabilities() -> Finding:
    held = privilege.effective_capabilities()
    wanted = {
        "CAP_SYS_ADMIN": privilege.CAP_SYS_ADMIN,
        "CAP_BPF": privilege.CAP_BPF,
        "CAP_PERFMON": privilege.CAP_PERFMON,
        "CAP_NET_ADMIN": privilege.CAP_NET_ADMIN,
    }
    names = [name for name, number in wanted.items() if held >> number & 1]
    detail = ", ".join(names) or "none of " + ", ".join(wanted)
    if privilege.may_load_bpf():
        return passed(detail)
    return warned(detail, "sudo proctree-bpf doctor")


_SYSCTLS = {
    "kernel.perf_event_paranoid": "perf buffers need a privilege",
    "kernel.unprivileged_bpf_disabled": "BPF needs a privilege",
}


def _check_sysctl(name: str, meaning: str) -> Finding:
    top = Path("/proc/sys")
    value = ""
    with suppress(OSError):
        value = (top / name.replace(".", "/")).read_text("ascii", "replace").strip()
    if not top.is_dir():
        return passed("unknown: /proc does not show it")
    if privilege.may_load_bpf() or value in ("", "0", "-1"):
        return passed(value or "not in this kernel")
    return warned(f"{value}: {meaning}", "run proctree-bpf with sudo")


def _check_lockdown() -> Finding:
    mode = privilege.lockdown_mode()
    if mode != "confidentiality":
        return passed(mode)
    return failed(
        "confidentiality: BPF may not read kernel memory", "boot without lockdown=confidentiality"
    )


def _check_memlock() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    text = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft // 1024} KiB"
    return passed(f"{text}; BCC raises it on kernels where it limits BPF")


_CHECKS: dict[str, Callable[[], Finding]] = {
    "bcc": _check_bcc,
    "bcc is not shadowed": _check_shadow,
    "libbcc": _check_libbcc,
    "BTF": _check_btf,
    "tracepoints": _check_tracepoints,
    "capabilities": _check_capabilities,
    **{name: partial(_check_sysctl, name, meaning) for name, meaning in _SYSCTLS.items()},
    "lockdown": _check_lockdown,
    "memlock": _check_memlock,
    **ENVIRONMENT_CHECKS,
}


def _prove(source: EventSource) -> str | None:
    """Run a process and wait until the source has told of it; return what is wrong, or None."""
    source.open()
    source.read_snapshot(source.poll)
    child = subprocess.Popen(["/bin/sleep", str(_PROOF_SECONDS)])  # noqa: S603 - fixed words
    try:
        deadline = time.monotonic() + _PROOF_SECONDS
        while time.monotonic() < deadline:
            if any(_is_about(event, child.pid) for event in source.poll().events):
                return None
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    return "it opens, but did not report a process that was started to try it"


def _is_about(event: ProcEvent, pid: int) -> bool:
    return isinstance(event, Fork | Exec) and event.key.pid == pid


def _check_source(name: str) -> Finding:
    everything = SourceOptions(name, BpfOptions(program_cache=None))  # the compiler, too
    source = candidates(everything, None)[0]()
    begun = time.perf_counter()
    try:
        wrong = _prove(source)
    except (SourceUnavailableError, SourceFailedError) as error:
        return failed(error.reason, error.remedy)
    except OSError as error:
        return failed(str(error), what_helps(error, "report this as a bug"))
    finally:
        source.close()
    seconds = round(time.perf_counter() - begun, 3)
    if wrong is not None:
        remedy = "run it on the host, or report this as a bug"
        return failed(wrong, remedy)._replace(seconds=seconds)
    limits = "; ".join(source.blind_spots)
    detail = f"works, but cannot know {limits}" if limits else "loads, attaches and receives"
    return passed(detail)._replace(seconds=seconds)


def examine() -> Iterator[tuple[str, Finding]]:
    """Run every check, the cheap ones first; yield its name, and what it found."""
    for name, check in _CHECKS.items():
        yield name, check()
    for name in LIVE:
        yield f"source {name}", _check_source(name)
