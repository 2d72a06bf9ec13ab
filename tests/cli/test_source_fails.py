"""A source that breaks while it runs is told as what it is; what was written before is whole.

Sources are broken for real: the kernel's objects behind their descriptors are replaced by
another, and /proc is covered.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Collector, SourceFailedError
from proctree_bpf.sources.proc_connector import ProcConnectorSource
from support.program import Result, actions, in_own_mounts, of_process, run, tracing
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from support.program import Trace

pytestmark = pytest.mark.kernel

# The program, which puts a directory in the place of some of its descriptors on SIGUSR1: those
# of a kind, and of these those of which fdinfo says something.
_BREAKABLE = """
import os, signal, sys
kind, saying = sys.argv.pop(1), sys.argv.pop(1)

def sever(*_):
    other = os.open("/", os.O_RDONLY)
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            said = open(f"/proc/self/fdinfo/{name}").read()
        except OSError:
            continue
        if target.startswith(kind) and saying in said:
            os.dup2(other, int(name))

signal.signal(signal.SIGUSR1, sever)
from proctree_bpf.cli import main
main()
"""
_OWN_PROC = in_own_mounts("mount -t proc proc /proc")
_WHAT = {
    "bpf": "BPF programs",
    "proc-connector": "proc connector",
    "proc-walker": "/proc cannot be listed",
}
every_source = pytest.mark.parametrize("source", _WHAT)


@contextmanager
def breakable(source: str, *options: str) -> Iterator[tuple[Trace, Callable[[], object]]]:
    """Run a trace; yields it, and what breaks its source."""
    # BPF_MAP_TYPE_PERCPU_ARRAY, include/uapi/linux/bpf.h: among them are the counters.
    kinds = {"bpf": ("anon_inode:bpf-map", "map_type:\t6\n"), "proc-connector": ("socket:", "")}
    program, before = None, []
    if source in kinds:
        program = [sys.executable, "-P", "-c", _BREAKABLE, *kinds[source]]
    else:
        before = _OWN_PROC
    with tracing("--source", source, *options, before=before, program=program) as trace:

        def sever() -> None:
            if source in kinds:
                os.kill(trace.pid, signal.SIGUSR1)
            else:
                cover_proc(trace)

        yield trace, sever


def cover_proc(trace: Trace) -> None:
    """Mount something else where a trace with mounts of its own has /proc."""
    enter = ["nsenter", f"--mount=/proc/{trace.pid}/ns/mnt"]
    subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/proc"], check=True)


def failed(trace: Trace, source: str) -> Result:
    """Assert that a trace ends by itself and says why; return how."""
    result = trace.wait()
    assert result.code == 70, result.err
    assert "Traceback" not in result.err
    *_, last = result.err.splitlines()
    assert "the source of events has failed" in last
    assert _WHAT[source] in last
    assert "written before is intact" in last
    assert "output could not be written" not in result.err
    return result


@every_source
def test_a_source_that_breaks_ends_the_trace_with_its_own_sentence(
    source: str, tmp_path: Path
) -> None:
    stats, recording = tmp_path / "stats", tmp_path / "recording"
    options = ("-f", "jsonl", "-e", "fork,exec,exit", "--stats-file", str(stats))
    with breakable(source, *options, "--record", str(recording)) as (trace, sever):
        child = subprocess.Popen(["/bin/sleep", "0.3"])
        child.wait()
        wait_until("its end is told", lambda: len(of_process(whole(trace), child.pid)) == 3)
        sever()
        result = failed(trace, source)
    assert actions(of_process(result.records(), child.pid)) == ["fork", "exec", "exit"]
    summary = json.loads(stats.read_text())
    assert _WHAT[source] in summary["failure"]
    assert summary["written"]["exec"] >= 1
    replayed = run("trace", "-f", "jsonl", "-e", "exec", "--source", f"replay:{recording}")
    assert replayed.code == 0, replayed.err
    assert of_process(replayed.records(), child.pid)


def whole(trace: Trace) -> Sequence[dict[str, object]]:
    """Return the records whose lines are complete so far."""
    return [json.loads(line) for line in trace.out().rpartition("\n")[0].splitlines()]


def test_the_connector_does_not_take_everybody_for_gone_when_proc_is(tmp_path: Path) -> None:
    stats = tmp_path / "stats"
    options = ("--source", "proc-connector", "-o", "/dev/null", "--stats-file", str(stats))
    with tracing(*options, before=_OWN_PROC) as trace:
        cover_proc(trace)
        subprocess.run(["/bin/true"], check=True)
        result = trace.wait()
    assert result.code == 70, result.err
    assert "/proc is not there any more" in result.err.splitlines()[-1]
    assert json.loads(stats.read_text())["failure"] == "/proc is not there any more"


@every_source
def test_its_command_goes_on_and_that_is_told(source: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"echo $$ > {ready}; exec sleep 60"
    with breakable(source, "-o", "/dev/null", "--", "sh", "-c", script) as (trace, sever):
        wait_until("it runs", lambda: ready.exists() and ready.read_text())
        pid = int(ready.read_text())
        try:
            sever()
            result = failed(trace, source)
            assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
        finally:
            os.kill(pid, signal.SIGKILL)
    assert f"sh (PID {pid}) is still running and is no longer traced" in result.err


def test_a_statistics_file_of_a_trace_that_went_well_tells_of_no_failure(tmp_path: Path) -> None:
    run("trace", "-d", "0", "--stats-file", str(tmp_path / "stats"))
    assert json.loads((tmp_path / "stats").read_text())["failure"] is None


def test_a_collector_hands_it_to_whoever_stops_it() -> None:
    """What was told before is in its tree."""
    source = ProcConnectorSource()
    collector = Collector(source)
    collector.start()
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        wait_until("it is known", lambda: child.pid in collector.tree)
        descriptor, other = source.fileno(), os.open("/", os.O_RDONLY)
        assert descriptor is not None
        os.dup2(other, descriptor)
        os.close(other)
        thread = collector._thread
        assert thread is not None
        wait_until("its thread ends", lambda: not thread.is_alive())
        with pytest.raises(SourceFailedError, match="proc connector"):
            collector.stop()
        assert child.pid in collector.tree
        child.kill()


@pytest.mark.parametrize(
    ("source", "option"), [("bpf", "--perf-pages"), ("proc-connector", "--receive-buffer")]
)
def test_what_helps_against_losses_is_an_option_of_that_source(
    source: str, option: str, tmp_path: Path
) -> None:
    small = {"bpf": ("--perf-pages", "1"), "proc-connector": ("--receive-buffer", "4096")}
    recording = str(tmp_path / "recording")
    with tracing(
        "--source", source, *small[source], "--interval", "1000", "-o", "/dev/null",
        "--record", recording,
    ) as trace:  # fmt: skip
        os.kill(trace.pid, signal.SIGSTOP)
        subprocess.run(["sh", "-c", "for i in $(seq 400); do /bin/true; done"], check=True)
        os.kill(trace.pid, signal.SIGCONT)
        result = trace.stop()
    assert "LOST" in result.err
    (advice,) = [line for line in result.err.splitlines() if "near a gap" in line]
    assert option in advice
    assert [other for other in ("--perf-pages", "--receive-buffer") if other in advice] == [option]
    replayed = run("trace", "-o", "/dev/null", "--source", f"replay:{recording}")
    (advice,) = [line for line in replayed.err.splitlines() if "near a gap" in line]
    assert "--" not in advice
