"""``trace -- COMMAND``: the command notices nothing, and nothing but it is traced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support.program import AS_NOBODY, PROGRAM, actions, environment, json_lines, run, tracing
from support.traced_command import QUICK, of_command
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel

_SOURCES = ("bpf", "proc-connector", "proc-walker")


def traced(tmp_path: Path, *words: str, source: str = "bpf") -> tuple[int, list[dict[str, Any]]]:
    """Trace a command; return its exit status and all records."""
    records = tmp_path / "records"
    options = ("-f", "jsonl", "-e", "fork,exec,exit", "-o", str(records), "--source", source)
    code = of_command(*options, "--", *words).code
    return code, json_lines(records.read_text())


def names(records: Sequence[dict[str, Any]], action: str) -> list[str]:
    return [r["process"]["name"] for r in records if r["event"]["action"] == action]


class TestExitStatus:
    @pytest.mark.parametrize("code", [0, 1, 2, 77, 126, 127, 128, 255])
    def test_the_commands_is_ours(self, code: int) -> None:
        assert of_command(*QUICK, "--", "sh", "-c", f"exit {code}").code == code

    @pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "KILL", "PIPE", "TERM", "USR1", "XFSZ"])
    def test_a_signal_is_128_and_its_number(self, name: str) -> None:
        script = f"ulimit -c 0; kill -{name} $$"
        code = of_command(*QUICK, "--", "sh", "-c", script).code
        assert code == 128 + signal.Signals[f"SIG{name}"]

    def test_it_is_the_commands_whatever_those_say_who_end_later(self) -> None:
        script = "(sleep 0.2; exit 9) & exit 4"
        assert of_command(*QUICK, "--", "sh", "-c", script).code == 4

    def test_a_reader_of_stdout_that_has_gone_does_not_change_it(self) -> None:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [*PROGRAM, "trace", *QUICK, "--", "false"],
            stdout=write, env=environment(), timeout=60, check=False,
        )  # fmt: skip
        os.close(write)
        assert done.returncode == 1


class TestWhatCannotBeRun:
    @pytest.fixture
    def unrunnable(self, tmp_path: Path) -> Path:
        (tmp_path / "plain").write_text("true")
        (tmp_path / "lost").write_text("#!/nonsuch/interpreter\n")
        (tmp_path / "foreign").write_bytes(b"\x7fELF\0garbage")
        for name in ("lost", "foreign"):
            (tmp_path / name).chmod(0o755)
        return tmp_path

    @pytest.mark.parametrize(
        ("name", "code"),
        [("nonsuch", 127), ("", 127), ("{}/nonsuch", 127), ("{}", 126), ("{}/plain", 126),
         ("{}/plain/x", 126)],
    )  # fmt: skip
    def test_it_is_said_in_one_sentence_before_anything_else(
        self, unrunnable: Path, name: str, code: int
    ) -> None:
        kept = unrunnable / "kept"
        kept.write_text("from an earlier run")
        result = run("trace", "-o", str(kept), "--", name.format(unrunnable), "x")
        assert (result.code, result.out) == (code, "")
        assert "cannot be" in result.sentence()
        assert kept.read_text() == "from an earlier run"

    @pytest.mark.parametrize("name", ["lost", "foreign"])
    def test_what_only_the_kernel_can_tell_is_said_as_well(
        self, unrunnable: Path, name: str
    ) -> None:
        records = unrunnable / "records"
        result = run("trace", "-o", str(records), "--", f"{unrunnable}/{name}")
        assert result.code == 126
        assert f"{name} cannot be run" in result.sentence_after_start()
        assert records.read_text() == ""

    def test_a_script_without_an_interpreter_is_for_the_shell(self, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text('echo "$1"; exit 5\n')
        script.chmod(0o755)
        done = of_command(*QUICK, "--", str(script), "an argument")
        assert (done.code, done.out) == (5, b"an argument\n")

    def test_path_is_searched_as_a_shell_does(self, tmp_path: Path) -> None:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "tool").write_text(f"echo {name}\n")
        path = f"{tmp_path}/nonsuch:{tmp_path}/first:{tmp_path}/second:{os.environ['PATH']}"
        assert of_command(*QUICK, "--", "tool", env={"PATH": path}).code == 126
        (tmp_path / "second" / "tool").chmod(0o755)
        assert of_command(*QUICK, "--", "tool", env={"PATH": path}).out == b"second\n"


class TestTheCommandLine:
    @pytest.mark.parametrize("words", [("--", "echo"), ("echo",)], ids=["with --", "without"])
    def test_all_that_follows_the_command_is_the_commands(self, words: tuple[str, ...]) -> None:
        arguments = ["-d", "0", "--", "", "--help", "a b", "\u6f22"]
        done = of_command(*QUICK, *words, *arguments)
        assert done.out.decode() == " ".join(arguments) + "\n"

    def test_arguments_may_be_any_bytes(self) -> None:
        words = b"".join(bytes([n]) for n in range(1, 256))
        assert of_command(*QUICK, "--", "printf", "%s", words).out == words

    def test_debug_is_ours_only_in_front_of_the_command(self) -> None:
        result = run("trace", "--", "/nonsuch", "--debug")
        assert "cannot be found" in result.sentence()

    def test_a_user_needs_a_command(self) -> None:
        result = run("trace", "--as-user", "nobody")
        assert result.code == 2
        assert "COMMAND" in result.sentence()

    def test_a_recording_has_no_command(self) -> None:
        result = run("trace", "--source", "replay:x", "--", "true")
        assert result.code == 2
        assert "COMMAND" in result.sentence()

    def test_there_is_no_third_way_to_wait(self) -> None:
        assert "--wait" in run("trace", "--wait", "none", "true").usage_error()


class TestStandardStreams:
    def test_stdin_and_stdout_pass_through_unchanged(self) -> None:
        data = os.urandom(3_000_000)
        done = of_command(*QUICK, "--", "cat", stdin=data)
        assert done.out == data

    def test_records_and_messages_go_to_stderr(self) -> None:
        done = of_command("-f", "jsonl", "--", "echo", "hello")
        assert done.out == b"hello\n"
        lines = done.err.decode().splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        assert actions(records) == ["exec", "exit"]
        assert lines[0].startswith("proctree-bpf: tracing with ")
        assert lines[0].endswith("; running echo")
        told = [line for line in lines if not line.startswith("{")]
        assert told[1].endswith("records written; nothing lost")
        assert all(line.startswith("proctree-bpf: ") for line in told)

    def test_records_go_to_stdout_if_that_is_asked_for(self) -> None:
        done = of_command("-f", "jsonl", "-o", "-", "--", "true")
        assert actions(json_lines(done.out.decode())) == ["exec", "exit"]

    def test_what_stderr_leads_to_may_be_appended_to(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("before\n")
        with log.open("ab") as err:
            subprocess.run(
                [*PROGRAM, "trace", "-f", "chain", "--", "true"],
                stderr=err, env=environment(), timeout=60, check=True,
            )  # fmt: skip
        first, *rest = log.read_text().splitlines()
        assert first == "before"
        assert [line.partition("\t")[0] for line in rest if "\t" in line] == ["exec", "exit"]

    def test_a_closed_stdin_is_closed_for_the_command_too(self) -> None:
        closed = ["sh", "-c", 'exec "$@" <&-', "sh"]
        listed = of_command(*QUICK, "--", "ls", "/proc/self/fd", before=closed).out.split()
        assert listed == subprocess.run(
            [*closed, "ls", "/proc/self/fd"], capture_output=True, check=True
        ).stdout.split()  # fmt: skip


# Leaves a daemon behind: its parent ends, and it has a session of its own.
_DAEMON = "(setsid sh -c 'sleep {}; echo daemon >> {}; exit 8' >&- 2>&- </dev/null &); exit 3"


class TestWhatIsTraced:
    @pytest.mark.parametrize("source", _SOURCES)
    def test_a_daemon_is_waited_for(self, tmp_path: Path, source: str) -> None:
        code, records = traced(
            tmp_path, "sh", "-c", _DAEMON.format(0.5, tmp_path / "done"), source=source
        )
        assert code == 3
        if source == "proc-walker":  # who created an orphan is what a walk cannot know
            return
        assert (tmp_path / "done").read_text() == "daemon\n"
        assert records[-1]["process"]["exit_code"] == 8

    @pytest.mark.parametrize("source", _SOURCES)
    def test_a_daemon_is_not_waited_for_if_that_is_not_wanted(
        self, tmp_path: Path, source: str
    ) -> None:
        done = tmp_path / "done"
        options = (*QUICK[2:], "--source", source, "--wait", "command")
        assert of_command(*options, "--", "sh", "-c", _DAEMON.format(1, done)).code == 3
        assert not done.exists()
        wait_until("the daemon goes on", done.exists)

    @pytest.mark.parametrize("source", ["bpf", "proc-connector"])
    def test_its_life_is_complete_from_the_first_exec(self, tmp_path: Path, source: str) -> None:
        words = ["sh", "-c", "/bin/true; (exit 6); exec sh -c 'exit 7'"]
        code, records = traced(tmp_path, *words, source=source)
        assert code == 7
        assert records[0]["process"]["args"] == words
        told = [(a, r["process"]["pid"]) for a, r in zip(actions(records), records, strict=True)]
        (_, root), *_ = told
        first, second = (pid for action, pid in told if action == "fork")
        assert told == [
            ("exec", root),
            ("fork", first), ("exec", first), ("exit", first),
            ("fork", second), ("exit", second),
            ("exec", root), ("exit", root),
        ]  # fmt: skip
        codes = [r["process"]["exit_code"] for r in records if r["event"]["action"] == "exit"]
        assert codes == [0, 6, 7]

    @pytest.mark.parametrize("option", ["--exclude-self", "--no-exclude-self"])
    def test_we_are_left_out_and_the_command_is_not(self, tmp_path: Path, option: str) -> None:
        records = tmp_path / "records"
        of_command(option, "-f", "jsonl", "-o", str(records), "--", "true")
        assert names(json_lines(records.read_text()), "exec") == ["true"]

    def test_nobody_else_is_told_of_however_busy_they_are(self, tmp_path: Path) -> None:
        busy = "while :; do /bin/true other; done"
        others = [subprocess.Popen(["nice", "-n", "19", "sh", "-c", busy]) for _ in range(2)]
        try:
            count = "i=0; while [ $i -lt 100 ]; do /bin/true own; i=$((i+1)); done"
            _, records = traced(tmp_path, "sh", "-c", count)
        finally:
            for other in others:
                other.kill()
                other.wait()
        told = [r["process"]["args"] for r in records if r["event"]["action"] == "exec"]
        assert told[1:] == [["/bin/true", "own"]] * 100
        assert len(records) == 1 + 300 + 1


class TestBeingStopped:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
    def test_a_signal_is_passed_on_and_what_comes_of_it_is_told(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        trap = f"trap 'echo caught; exit 9' {number.name[3:]}"
        script = f"{trap}; echo set up; while :; do sleep 0.1; done"
        options = ("-f", "jsonl", "-o", str(tmp_path / "records"))
        with tracing(*options, "--", "sh", "-c", script) as trace:
            wait_until("the command is set up", lambda: "set up" in trace.out())
            result = trace.stop(number)
        assert (result.code, result.out) == (9, "set up\ncaught\n")
        last = json_lines((tmp_path / "records").read_text())[-1]
        assert (last["event"]["action"], last["process"]["exit_code"]) == ("exit", 9)

    def test_a_command_that_does_not_heed_it_is_left_alone(self) -> None:
        with tracing(*QUICK, "--", "sh", "-c", "trap '' TERM; echo $$; exec sleep 1000") as trace:
            pid = int(wait_until("the command runs", trace.out))
            result = trace.stop(signal.SIGTERM)
        try:
            assert result.code == 128 + signal.SIGTERM
            assert f"sh (PID {pid}) is still running" in result.err.splitlines()[-1]
            os.kill(pid, 0)
        finally:
            os.kill(pid, signal.SIGKILL)

    def test_those_it_left_are_not_waited_for_then(self) -> None:
        with tracing(*QUICK, "--", "sh", "-c", "setsid sleep 1000 & echo $!; exec sleep 1001") as t:
            pid = int(wait_until("the command runs", t.out))
            result = t.stop(signal.SIGTERM)
        os.kill(pid, signal.SIGKILL)
        assert result.code == 128 + signal.SIGTERM

    def test_an_interrupt_that_only_we_get_is_ignored_while_it_runs(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "gate")
        script = f"echo set up; read x < {tmp_path}/gate; exit 5"
        with tracing(*QUICK, "--", "sh", "-c", script) as trace:
            wait_until("the command is set up", trace.out)
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
                trace.process.send_signal(number)
            (tmp_path / "gate").write_text("go\n")
            assert trace.wait().code == 5

    @pytest.mark.parametrize("source", _SOURCES)
    def test_a_time_limit_leaves_it_running_and_says_so(self, source: str) -> None:
        script = "echo $$; exec sleep 1000"
        options = ("-d", "0.5", "--source", source, "-o", os.devnull)
        with tracing(*options, "--", "sh", "-c", script) as trace:
            result = trace.wait()
        pid = int(result.out)
        try:
            assert result.code == 0
            assert f"sh (PID {pid}) is still running" in result.err
            os.kill(pid, 0)
        finally:
            os.kill(pid, signal.SIGKILL)

    def test_a_time_limit_after_its_end_gives_its_exit_status(self) -> None:
        script = "setsid sleep 1000 >&- & echo $!; exit 6"
        with tracing("-d", "0.5", *QUICK, "--", "sh", "-c", script) as trace:
            result = trace.wait()
        os.kill(int(result.out), signal.SIGKILL)
        assert result.code == 6

    def test_a_refused_source_leaves_no_child(self, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        result = run("trace", "--source", "bpf", "--", "touch", str(ran), before=AS_NOBODY)
        assert result.code == 77
        assert "sudo" in result.sentence()
        assert not ran.exists()


def test_a_command_is_as_old_as_it_ran_however_long_it_was_held() -> None:
    result = run("trace", "-f", "table", "-e", "exit", "--fields", "age", "-o", "-", "true")
    (age,) = [row.strip() for row in result.out.splitlines()[1:]]
    assert age.endswith("us") or (age.endswith("ms") and float(age[:-2]) < 250), age
