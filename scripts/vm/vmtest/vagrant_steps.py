"""What the smoke test does once a libvirt of its own runs: vagrant up, the demo, tests, destroy.

It does not tidy up after a failure: what it started ends with the namespaces that it is in.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from vmtest import demo_check, results
from vmtest.cache import LOGS
from vmtest.commands import run, tail
from vmtest.failure import ROOT, FailedError
from vmtest.supported import USERLANDS
from vmtest.terminal import Terminal

REPORTED = 3
"""The exit status of a failure that was reported already."""
LOG = LOGS / "vagrant-smoke.log"
CONSOLE = LOGS / "vagrant-smoke-console.log"
TESTS = (
    "tests/kernel/test_exit.py",
    "tests/kernel/test_identity.py",
    "tests/kernel/test_creation.py",
    "tests/kernel/test_filter_demo.py",
)
"""What an emulated machine can carry of exits, identity, creation and the filter."""

SUBJECT = f"the VM of Debian {USERLANDS[0].suite}"

_BOX = "proctree-smoke"
# In the namespace, all of it is below the run's own directory; QEMU, another user, gets there too.
_HOME = Path("/var/lib/libvirt/vagrant")
_STEP = "== "
_ROUNDS = 2
_TRACE = "sudo proctree-bpf trace --ancestor demo"
_DEMO = f"/vagrant/scripts/demo {_ROUNDS}"
_PATIENCE_S = 120
_SHOWN_S = 20
_TESTS_LIMIT_S = 1200
_VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.vm.provider "libvirt" do |libvirt|
    libvirt.disk_driver :cache => "unsafe"
  end
end
"""


def main() -> int:
    """Return the exit status."""
    built, *arguments = sys.argv[1:]
    try:
        _run_steps(Path(built), arguments)
    except FailedError as error:
        _keep_logs()
        step_name = last_step(LOG)
        lines = [
            f"FAILED {_subject()} at: {step_name}",
            f"  {error.reason}",
            f"  log:   {_name(LOG)}",
        ]
        if CONSOLE.exists():
            lines.append(f"  console: {_name(CONSOLE)}")
        sys.stdout.write("\n".join(lines) + "\n")
        return REPORTED
    return 0


def environment(driver: str) -> dict[str, str]:
    """Return what Vagrant finds in its environment."""
    return {
        "VAGRANT_HOME": str(_HOME),
        "VAGRANT_DOTFILE_PATH": str(_HOME / "dot"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "PROCTREE_BOX": _BOX,
        "PROCTREE_LIBVIRT_DRIVER": driver,
        "PROCTREE_CONSOLE": str(CONSOLE),
    }


def _subject() -> str:
    """Return what was tested, with the kernel that its console tells of."""
    told = CONSOLE.read_text(errors="replace") if CONSOLE.exists() else ""
    kernel = re.search(r"Linux version (\S+)", told)
    return f"{SUBJECT}, Linux {kernel[1]}" if kernel else SUBJECT


def step(name: str, log: Path = LOG) -> None:
    """Tell what is done next."""
    show(f"{_STEP}{name} ({time.strftime('%X')})", log)


def show(text: str, log: Path = LOG) -> None:
    """Tell the terminal and the log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    with log.open("a") as file:
        file.write(f"{text}\n")


def last_step(log: Path) -> str:
    """Return the step that was begun last."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    steps = [line for line in lines if line.startswith(_STEP)]
    return steps[-1].removeprefix(_STEP).partition(" (")[0] if steps else "setup"


def _run_steps(built: Path, arguments: list[str]) -> None:
    _HOME.mkdir(exist_ok=True)
    (_HOME / "Vagrantfile").write_text(_VAGRANTFILE)
    CONSOLE.unlink(missing_ok=True)
    run("libvirt", LOG, ["virsh", "-c", "qemu:///system", "version"], limit_s=60)
    step("vagrant box add")
    _vagrant("box", "add", "--name", _BOX, str(built))
    step("vagrant up")
    told = _vagrant("up")
    if "source bpf: loads, attaches and receives" not in told:
        raise FailedError("vagrant up", "it did not end with a doctor that can use BPF", LOG)
    step("live ancestry filter")
    _follow_demo()
    step("kernel tests inside")
    _run_tests(arguments or list(TESTS))
    step("vagrant destroy")
    _vagrant("destroy", "-f")
    left = subprocess.run(
        ["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if left:
        raise FailedError("vagrant destroy", f"it is still there: {left}", LOG)


def _vagrant(*words: str, limit_s: float = 900) -> str:
    """Run a command of Vagrant's; return what it wrote."""
    begin = LOG.stat().st_size
    run(words[0], LOG, ["vagrant", "--no-tty", "--no-color", *words], limit_s=limit_s)
    return LOG.read_bytes()[begin:].decode(errors="replace")


def _follow_demo() -> None:
    """Do what the README says, as a person at two terminals would, and judge what is seen."""
    show(f"$ vagrant ssh -c {shlex.quote(_TRACE)}")
    with Terminal(["vagrant", "ssh", "-c", _TRACE]) as trace:
        if not trace.wait_for("tracing with .*\n", _PATIENCE_S):
            raise FailedError("live ancestry filter", f"no start: {trace.text()}", LOG)
        demo = _vagrant("ssh", "-c", _DEMO, limit_s=_PATIENCE_S)
        # If the last to end is never shown, that is found below.
        trace.wait_for(rf"(?:exit +\d+ +\d+ \S+ +orphan [^\0]*){{{_ROUNDS}}}", _SHOWN_S)
        trace.interrupt()
        status = trace.end(_PATIENCE_S)
    show(trace.text())
    faults = demo_check.faults(trace.text(), demo, _ROUNDS)
    if status:
        faults.append(f"the trace ended with status {status} after Ctrl-C")
    if faults:
        raise FailedError("live ancestry filter", "\n  ".join(faults), LOG)


def _run_tests(arguments: list[str]) -> None:
    """Run tests; all of them must pass, and each file must have one that does."""
    outcomes = "/tmp/outcomes"  # noqa: S108 - in the VM
    environment = f"PROCTREE_PATIENCE_S=120 PYTHONPATH=scripts/vm PROCTREE_OUTCOMES={outcomes}"
    plugins = "-p vmtest.pytest_reporter -p no:cacheprovider -p no:randomly"
    pytest = f"{plugins} -v -o timeout=300 {shlex.join(arguments)}"
    failed = None
    begin = LOG.stat().st_size
    try:
        _vagrant(
            "ssh", "-c",
            # scripts/test makes the environment, and does not heed PYTHONPATH.
            f"cd /vagrant && sudo scripts/test --version && "
            f"sudo env {environment} .venv/bin/python -P -m pytest {pytest}; "
            f"s=$?; cat {outcomes}; exit $s",
            limit_s=_TESTS_LIMIT_S,
        )  # fmt: skip
    except FailedError as error:
        failed = error
    told = results.read_reports(LOG.read_bytes()[begin:].decode(errors="replace"))
    counts: dict[str, results.Count] = {}
    for each in told:
        counts.setdefault(each.test.partition("::")[0], results.Count()).add(each)
    for file, count in counts.items():
        show(f"{file}: {count.cell()}")
    faults = results.faults(counts, told, whole=True)
    if failed is not None or faults or not told:
        reason = failed.reason if failed is not None else "no test was run"
        raise FailedError("kernel tests inside", "\n  ".join(faults) or reason, LOG)


def _keep_logs() -> None:
    """Put what libvirt and QEMU wrote into the log, before it is gone."""
    with LOG.open("a") as file:
        for path in sorted(Path("/var/log/libvirt").rglob("*.log")):
            file.write(f"-- {path}\n{tail(path)}\n")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))
