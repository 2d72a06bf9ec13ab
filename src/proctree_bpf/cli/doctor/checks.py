"""The checks of ``doctor``: what BPF and each source need, tried for real."""

from __future__ import annotations

import ctypes
import importlib.util
import resource
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf.cli.doctor.environment import ENVIRONMENT_CHECKS
from proctree_bpf.cli.doctor.finding import Finding, Verdict, passed
from proctree_bpf.codecs.btf import Btf
from proctree_bpf.codecs.kernel_layout import MissingFieldError, layout_macros
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
        return Finding("bcc", Verdict.FAIL, error.reason, error.remedy)
    return passed("bcc", f"{getattr(bcc, '__version__', 'unknown version')}, {bcc.__file__}")


def _check_shadow() -> Finding:
    """Look for the other project named bcc wherever Python would look."""
    spec = importlib.util.find_spec("bcc")
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    if origin is None or (origin.parent / "libbcc.py").exists():
        return passed("bcc is not shadowed", "Python finds no other module of that name first")
    return Finding(
        "bcc is not shadowed",
        Verdict.WARN,
        f"{origin} belongs to an unrelated project, not to BCC",
        "pip uninstall bcc",
    )


def _check_libbcc() -> Finding:
    name = "libbcc.so.0"  # as bcc loads it; find_library would run compilers that PATH names
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return Finding(
            "libbcc", Verdict.FAIL, str(error), "apt-get install libbpfcc (Fedora: dnf install bcc)"
        )
    return passed("libbcc", name)


def _check_btf() -> Finding:
    remedy = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    try:
        macros = layout_macros(Btf(BTF_PATH.read_bytes()))
    except OSError as error:
        remedy = what_helps(error, remedy)
        return Finding("BTF", Verdict.FAIL, f"{BTF_PATH}: {error.strerror}", remedy)
    except (DecodeError, MissingFieldError) as error:
        return Finding("BTF", Verdict.FAIL, f"{BTF_PATH}: {error}", remedy)
    return passed("BTF", f"{BTF_PATH}, {len(macros)} offsets found")


def _check_tracepoints() -> Finding:
    """BTF names every tracepoint, so tracefs need not be mounted."""
    wanted = ("sched_process_fork", "sched_process_exec", "sched_process_exit", "task_rename")
    try:
        btf = Btf(BTF_PATH.read_bytes())
    except (OSError, DecodeError):
        return Finding(
            "tracepoints", Verdict.WARN, "cannot be checked without BTF", "see BTF above"
        )
    missing = [name for name in wanted if btf.prototype_arity(f"btf_trace_{name}") is None]
    if missing:
        return Finding(
            "tracepoints", Verdict.FAIL, f"not in this kernel: {', '.join(missing)}",
            "use a kernel built with CONFIG_TRACEPOINTS=y",
        )  # fmt: skip
    return passed("tracepoints", ", ".join(wanted))


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
        return passed("capabilities", detail)
    return Finding("capabilities", Verdict.WARN, detail, "sudo proctree-bpf doctor")


def _sysctl(name: str) -> str:
    with suppress(OSError):
        path = Path("/proc/sys") / name.replace(".", "/")
        return path.read_text("ascii", "replace").strip()
    return ""


def _check_sysctl(name: str, meaning: str, remedy: str) -> Finding:
    value = _sysctl(name)
    if not Path("/proc/sys").is_dir():
        return passed(name, "unknown: /proc does not show it")
    if privilege.may_load_bpf() or value in ("", "0", "-1"):
        return passed(name, value or "not in this kernel")
    return Finding(name, Verdict.WARN, f"{value}: {meaning}", remedy)


def _check_lockdown() -> Finding:
    mode = privilege.lockdown_mode()
    if mode != "confidentiality":
        return passed("lockdown", mode)
    return Finding(
        "lockdown", Verdict.FAIL, "confidentiality: BPF may not read kernel memory",
        "boot without lockdown=confidentiality",
    )  # fmt: skip


def _check_memlock() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    text = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft // 1024} KiB"
    return passed("memlock", f"{text}; BCC raises it on kernels where it limits BPF")


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _check_bcc,
    _check_shadow,
    _check_libbcc,
    _check_btf,
    _check_tracepoints,
    _check_capabilities,
    lambda: _check_sysctl(
        "kernel.perf_event_paranoid", "perf buffers need a privilege", "run proctree-bpf with sudo"
    ),
    lambda: _check_sysctl(
        "kernel.unprivileged_bpf_disabled", "BPF needs a privilege", "run proctree-bpf with sudo"
    ),
    _check_lockdown,
    _check_memlock,
    *ENVIRONMENT_CHECKS,
)


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
    check = f"source {name}"
    begun = time.perf_counter()
    try:
        wrong = _prove(source)
    except SourceUnavailableError as error:
        return Finding(check, Verdict.FAIL, error.reason, error.remedy)
    except SourceFailedError as error:
        return Finding(check, Verdict.FAIL, error.reason, error.remedy)
    except OSError as error:
        remedy = what_helps(error, "report this as a bug")
        return Finding(check, Verdict.FAIL, str(error), remedy)
    finally:
        source.close()
    seconds = round(time.perf_counter() - begun, 3)
    if wrong is not None:
        return Finding(
            check, Verdict.FAIL, wrong, "run it on the host, or report this as a bug", seconds
        )
    limits = "; ".join(source.blind_spots)
    detail = f"works, but cannot know {limits}" if limits else "loads, attaches and receives"
    return Finding(check, Verdict.PASS, detail, seconds=seconds)


def examine() -> Iterator[Finding]:
    """Run every check, the cheap ones first."""
    for check in _CHECKS:
        yield check()
    for name in LIVE:
        yield _check_source(name)
