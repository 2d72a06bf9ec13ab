"""Output that cannot be opened, a disk that fills, a reader that goes away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.program import (
    AS_NOBODY,
    PROGRAM,
    Result,
    environment,
    in_own_mounts,
    run,
    tracing,
)
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILE_OPTIONS = ("-o", "--stats-file")


def in_shell(script: str, *words: str) -> Result:
    """Run a bash script in which "$@" is the program; ``words`` follow it."""
    done = subprocess.run(
        ["bash", "-c", script, "bash", *PROGRAM, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


class TestUnwritable:
    """Refused before anything is traced, with the usage status: another name will do."""

    @pytest.mark.parametrize("option", _FILE_OPTIONS)
    @pytest.mark.parametrize("place", [".", "missing/file", "file/file"])
    def test_a_place_that_cannot_hold_a_file(self, tmp_path: Path, option: str, place: str) -> None:
        (tmp_path / "file").touch()
        target = tmp_path / place
        result = run("trace", option, str(target))
        assert (result.code, result.out) == (2, "")
        sentence = result.sentence()
        assert str(target) in sentence
        assert option in sentence

    @pytest.mark.parametrize("option", _FILE_OPTIONS)
    def test_a_directory_of_somebody_else(self, tmp_path: Path, option: str) -> None:
        tmp_path.chmod(0o755 if os.geteuid() == 0 else 0o555)
        result = run("trace", option, str(tmp_path / "file"), before=AS_NOBODY)
        assert (result.code, result.out) == (2, "")
        assert "Permission denied" in result.sentence()
        assert not (tmp_path / "file").exists()

    @pytest.mark.kernel
    @pytest.mark.parametrize("option", _FILE_OPTIONS)
    def test_a_read_only_file_system(self, tmp_path: Path, option: str) -> None:
        before = in_own_mounts(f"mount -t tmpfs -o ro none '{tmp_path}'")
        result = run("trace", option, str(tmp_path / "file"), before=before)
        assert (result.code, result.out) == (2, "")
        assert "Read-only file system" in result.sentence()

    def test_a_name_with_escape_sequences_is_repeated_harmlessly(self, tmp_path: Path) -> None:
        result = run("trace", "-o", str(tmp_path / "\x1b[2J" / "file"))
        assert result.code == 2
        assert r"\x1b[2J" in result.sentence()


def traced_onto_full_disk(directory: Path, size: str, *options: str) -> tuple[Result, Path]:
    """Trace until a disk of this size is full; return the end, and a copy of the file on it.

    ``{disk}`` in the options stands for the disk. It goes with its mount namespace, so the file
    is copied out at the end.
    """
    disk, kept = directory / "disk", directory / "kept"
    disk.mkdir()
    script = f'"$@"; code=$?; cat "{disk}"/* > "{kept}"; exit $code'
    mounts = in_own_mounts(f"mount -t tmpfs -o size={size} none '{disk}'")
    words = [option.format(disk=disk) for option in ("-f", "jsonl", *options)]
    with tracing(*words, before=[*mounts, "sh", "-c", script, "sh"]) as trace:
        wait_until(
            "the disk is full",
            lambda: subprocess.run(["true"], check=True) and trace.process.poll() is not None,
        )
        return trace.wait(), kept


@pytest.mark.kernel
class TestFullDisk:
    def test_a_disk_that_fills_while_tracing(self, tmp_path: Path) -> None:
        options = ("-e", "fork,exec,exit", "-o", "{disk}/events")
        result, kept = traced_onto_full_disk(tmp_path, "64k", *options)
        assert (result.code, result.out) == (70, "")
        assert "disk is full" in result.sentence_after_start()
        assert " missing" in result.sentence_after_start()
        *whole, nothing_more = kept.read_text().split("\n")
        assert len(whole) > 10
        assert all("event" in json.loads(line) for line in whole)
        assert nothing_more == ""

    def test_a_recording_that_the_disk_has_no_room_for_is_replayed_up_to_there(
        self, tmp_path: Path
    ) -> None:
        options = ("-o", "/dev/null", "--record", "{disk}/record")
        result, kept = traced_onto_full_disk(tmp_path, "256k", *options)
        assert (result.code, result.out) == (70, "")
        assert "disk is full" in result.sentence_after_start()
        again = run("trace", "-f", "jsonl", "--source", f"replay:{kept}")
        assert again.code == 0
        assert "is cut short at byte" in again.err.splitlines()[0]
        assert len(again.records()) > 10

    def test_statistics_that_do_not_fit_leave_the_earlier_ones(self, tmp_path: Path) -> None:
        disk, kept = tmp_path / "disk", tmp_path / "kept"
        disk.mkdir()
        fill = f"echo earlier > '{disk}/stats'; cat /dev/zero > '{disk}/zeros' 2>&- || true"
        script = f'"$@"; code=$?; cat "{disk}/stats" > "{kept}"; ls -A "{disk}" >&2; exit $code'
        mounts = in_own_mounts(f"mount -t tmpfs -o size=64k none '{disk}'\n{fill}")
        before = [*mounts, "sh", "-c", script, "sh"]
        words = ("trace", "-d", "0", "-o", "/dev/null", "--stats-file", f"{disk}/stats")
        result = run(*words, before=before)
        assert result.code == 70
        assert kept.read_text() == "earlier\n"
        *_, told, stats, zeros = result.err.splitlines()
        assert "disk is full" in told
        assert (stats, zeros) == ("stats", "zeros")

    @pytest.mark.parametrize("option", _FILE_OPTIONS)
    def test_a_device_that_is_always_full(self, option: str) -> None:
        result = run("trace", "-d", "0", option, "/dev/full")
        assert result.code == 70
        assert result.err.splitlines()[-1].startswith("proctree-bpf: ")
        assert "disk is full" in result.err.splitlines()[-1]
        assert "Traceback" not in result.err

    def test_the_statistics_that_fail_are_the_ones_named(self) -> None:
        result = run("trace", "-d", "0", "--stats-file", "/dev/full")
        assert "/dev/full" in result.err.splitlines()[-1]


@pytest.mark.kernel
def test_what_a_rotation_by_copy_and_truncate_leaves_has_no_hole(tmp_path: Path) -> None:
    out = tmp_path / "events"
    with tracing("-f", "jsonl", "-o", str(out), "--source", "bpf") as trace:
        for _ in range(2):
            wait_until(
                "something is written",
                lambda: subprocess.run(["true"], check=True) and out.stat().st_size > 1000,
            )
            os.truncate(out, 0)
        wait_until(
            "it goes on", lambda: subprocess.run(["true"], check=True) and out.stat().st_size
        )
        assert trace.stop().code == 0
    data = out.read_bytes()
    assert data
    assert b"\0" not in data


@pytest.mark.parametrize("words", [("tree",), ("--help",), ("--version",), ("chain", "1")])
def test_an_answer_that_does_not_fit_the_disk_is_not_lost_in_silence(words: Sequence[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        result = run(*words, stdout=full)
    assert result.code == 70
    assert "disk is full" in result.sentence()


# The program, in which something that is not the output's fails with an error of the system's.
_FAILING = """
from proctree_bpf.cli import main
from proctree_bpf.core import subtree
from proctree_bpf.pipeline import Pipeline
def fail(*_):
    raise OSError(5, "Input/output error")
subtree.display = Pipeline.pump = Pipeline.finish = fail
main()
"""


@pytest.mark.parametrize("words", [("tree",), ("trace", "-d", "0", "--source", "proc-walker")])
def test_an_error_that_nobody_expects_is_not_taken_for_one_of_the_output(
    words: Sequence[str],
) -> None:
    result = run(*words, program=[sys.executable, "-P", "-c", _FAILING])
    assert result.code == 70
    assert "internal error: OSError(5, 'Input/output error')" in result.err.splitlines()[-1]
    assert "could not be written" not in result.err
    assert "Traceback" not in result.err


class TestClosedPipe:
    """Whoever closes the pipe has seen enough: not an error, and nothing to complain about."""

    @pytest.mark.kernel
    def test_head_ends_a_trace_in_peace(self) -> None:
        script = '"$@" | head -1; echo "${PIPESTATUS[0]}" >&2'
        result = in_shell(script, "trace", "-e", "exec,exit")
        assert result.out.startswith("TIME ")
        assert result.out.count("\n") == 1
        assert result.err.splitlines()[-1] == "0"
        assert "Traceback" not in result.err
        assert "BrokenPipe" not in result.err

    @pytest.mark.kernel
    def test_head_ends_a_trace_that_has_nothing_more_to_say(self) -> None:
        """In a PID namespace of its own no other process is seen, so no write can fail."""
        alone = "unshare --pid --fork --kill-child --mount-proc bash -c"
        script = f'exec {alone} \'"$@" | true; exit "${{PIPESTATUS[0]}}"\' bash "$@"'
        # Who does not notice runs until in_shell() loses its patience.
        result = in_shell(script, "trace", "--source", "proc-walker", "-f", "jsonl", "-e", "fork")
        assert result.code == 0
        assert "Traceback" not in result.err

    @pytest.mark.kernel
    def test_head_may_take_the_messages_too(self) -> None:
        result = in_shell('"$@" 2>&1 | head -1; exit "${PIPESTATUS[0]}"', "trace")
        assert result.out.startswith("proctree-bpf: tracing with ")
        assert result.code == 0

    @pytest.mark.kernel
    def test_a_reader_that_leaves_under_load_ends_the_trace(self) -> None:
        read, write = os.pipe()
        with tracing("-f", "jsonl", "-e", "fork,exec,exit", stdout=write) as trace:
            os.close(write)
            subprocess.run(["true"], check=True)
            assert os.read(read, 1) == b"{"
            os.close(read)
            for _ in range(20):
                subprocess.run(["true"], check=True)
            result = trace.wait()
        assert result.code == 0
        assert "Traceback" not in result.err

    @pytest.mark.parametrize(
        "words", [("tree",), ("chain", "1"), ("--help",), ("--version",)], ids=" ".join
    )
    def test_a_query_whose_reader_has_gone_ends_in_peace(self, words: Sequence[str]) -> None:
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb", 0) as gone:
            result = run(*words, stdout=gone)
        assert (result.code, result.err) == (0, "")


class TestClosedDescriptors:
    """Some parents start a program without stdin, stdout or stderr."""

    def test_a_query_works_without_stdin(self) -> None:
        result = in_shell('"$@" <&-', "chain", "1")
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("1|")

    def test_a_query_without_stdout_says_so(self) -> None:
        result = in_shell('"$@" >&-', "chain", "1")
        assert result.code == 70
        assert "could not be written" in result.sentence()

    @pytest.mark.kernel
    def test_a_trace_without_stdout_says_so(self) -> None:
        result = in_shell('"$@" >&-', "trace", "-d", "0")
        assert result.code == 70
        assert "could not be written" in result.sentence()

    @pytest.mark.kernel
    def test_a_trace_without_stderr_still_writes_its_records_and_nothing_else(self) -> None:
        result = in_shell('"$@" 2>&-', "trace", "-d", "0", "-f", "jsonl", "-e", "fork")
        assert result.code == 0
        assert {record["event"]["action"] for record in result.records()} <= {"fork"}

    def test_an_error_without_stderr_does_not_go_to_stdout(self) -> None:
        result = in_shell('"$@" 2>&-', "find", "--cmd", "no-such-name")
        assert (result.code, result.out) == (1, "")
