"""``trace -- COMMAND``: the command notices nothing, and nothing but it is traced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from support.program import (
    AS_NOBODY,
    NOBODY,
    PROGRAM,
    actions,
    environment,
    json_lines,
    run,
    tracing,
)
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel

_SOURCES = ("bpf", "proc-connector", "proc-walker")
# Starts at once, for what does not depend on the source.
_QUICK = ("--source", "proc-connector", "-o", os.devnull)


@dataclass(frozen=True)
class Run:
    """How a run ended, in bytes."""

    code: int
    out: bytes
    err: bytes


def of_command(
    *words: str | bytes,
    before: Sequence[str] = (),
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Run:
    """Run ``trace`` with these words."""
    done = subprocess.run(
        [*before, *PROGRAM, "trace", *words],
        input=stdin,
        capture_output=True,
        env=environment(env),
        pass_fds=pass_fds,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


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
        assert of_command(*_QUICK, "--", "sh", "-c", f"exit {code}").code == code

    @pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "KILL", "PIPE", "TERM", "USR1", "XFSZ"])
    def test_a_signal_is_128_and_its_number(self, name: str) -> None:
        script = f"ulimit -c 0; kill -{name} $$"
        code = of_command(*_QUICK, "--", "sh", "-c", script).code
        assert code == 128 + signal.Signals[f"SIG{name}"]

    def test_it_is_the_commands_whatever_those_say_who_end_later(self) -> None:
        script = "(sleep 0.2; exit 9) & exit 4"
        assert of_command(*_QUICK, "--", "sh", "-c", script).code == 4

    def test_a_reader_of_stdout_that_has_gone_does_not_change_it(self) -> None:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [*PROGRAM, "trace", *_QUICK, "--", "false"],
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
        done = of_command(*_QUICK, "--", str(script), "an argument")
        assert (done.code, done.out) == (5, b"an argument\n")

    def test_path_is_searched_as_a_shell_does(self, tmp_path: Path) -> None:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "tool").write_text(f"echo {name}\n")
        path = f"{tmp_path}/nonsuch:{tmp_path}/first:{tmp_path}/second:{os.environ['PATH']}"
        assert of_command(*_QUICK, "--", "tool", env={"PATH": path}).code == 126
        (tmp_path / "second" / "tool").chmod(0o755)
        assert of_command(*_QUICK, "--", "tool", env={"PATH": path}).out == b"second\n"


class TestTheCommandLine:
    @pytest.mark.parametrize("words", [("--", "echo"), ("echo",)], ids=["with --", "without"])
    def test_all_that_follows_the_command_is_the_commands(self, words: tuple[str, ...]) -> None:
        arguments = ["-d", "0", "--", "", "--help", "a b", "\u6f22"]
        done = of_command(*_QUICK, *words, *arguments)
        assert done.out.decode() == " ".join(arguments) + "\n"

    def test_arguments_may_be_any_bytes(self) -> None:
        words = b"".join(bytes([n]) for n in range(1, 256))
        assert of_command(*_QUICK, "--", "printf", "%s", words).out == words

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
        done = of_command(*_QUICK, "--", "cat", stdin=data)
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
        listed = of_command(*_QUICK, "--", "ls", "/proc/self/fd", before=closed).out.split()
        assert listed == subprocess.run(
            [*closed, "ls", "/proc/self/fd"], capture_output=True, check=True
        ).stdout.split()  # fmt: skip


# What a program inherits, as the program itself sees it; Python changes what it ignores.
_INHERITED = """
import json, os
status = dict(line.split(':\\t') for line in open('/proc/self/status') if ':\\t' in line)
kept = 'SigBlk Umask NoNewPrivs CapInh CapAmb CapPrm CapEff CapBnd Groups Uid Gid Seccomp'
print(json.dumps({
    'status': {name: status[name] for name in kept.split()},
    'group': os.getpgrp(), 'session': os.getsid(0), 'cwd': os.getcwd(), 'nice': os.nice(0),
    'fds': sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1],
    'limits': open('/proc/self/limits').read(),
    'environ': open('/proc/self/environ', encoding='latin-1').read(),
    'oom': open('/proc/self/oom_score_adj').read(),
}))
"""


def inherits(before: Sequence[str], prefix: Sequence[str], env: Mapping[str, str]) -> Any:
    read, write = os.pipe()
    os.set_inheritable(read, True)  # noqa: FBT003 - the standard library's signature

    def seen_by(*program: str) -> str:
        return subprocess.run(
            [*before, *prefix, *program],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=env, pass_fds=[read], timeout=60, check=True, text=True,
        ).stdout  # fmt: skip

    try:
        found = json.loads(seen_by(sys.executable, "-I", "-c", _INHERITED))
        found["signals"] = seen_by("grep", "Sig[BIC]", "/proc/self/status")
    finally:
        os.close(read)
        os.close(write)
    return found


class TestInheritance:
    @pytest.mark.parametrize(
        "before",
        [
            (),
            ("nohup",),
            ("sh", "-c", 'trap "" INT QUIT USR1 CHLD; exec "$@"', "sh"),
            ("sh", "-c", 'umask 027; ulimit -n 77; cd /; exec "$@"', "sh"),
            ("setsid", "--wait"),
            ("nice", "-n", "5"),
            AS_NOBODY,
        ],
        ids=["nothing", "nohup", "ignored signals", "limits", "session", "nice", "nobody"],
    )
    def test_the_command_inherits_what_it_would_without_us(self, before: Sequence[str]) -> None:
        env = {"PATH": os.environ["PATH"], "ODD": "\udcff\n=", "HOME": "/x"}
        bare = inherits(before, (), env)
        ours = inherits(before, [*PROGRAM, "trace", *_QUICK, "--"], env)
        if "setsid" in before:  # another session each time: only that it is a new one is the same
            for found in (bare, ours):
                assert found.pop("group") == found.pop("session") != os.getsid(0)
        assert ours == bare

    def test_a_broken_pipe_ends_it_as_it_would_without_us(self) -> None:
        done = of_command(*_QUICK, "--", "bash", "-c", "yes | head -1; echo ${PIPESTATUS[*]}")
        assert done.out == b"y\n141 0\n"


class TestUser:
    SUDO: ClassVar = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY), "SUDO_USER": "nobody"}

    def test_under_sudo_it_runs_as_who_called_it(self) -> None:
        left = {**self.SUDO, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh"}
        seen = "id; echo $HOME $USER $LOGNAME $SHELL $SUDO_UID; grep Cap[^IB] /proc/self/status"
        done = of_command(*_QUICK, "--", "sh", "-c", seen, env=left)
        assert done.out.decode().splitlines() == [
            "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)",
            f"/root root root /bin/sh {NOBODY}",
            *(f"Cap{name}:\t{0:016x}" for name in ("Prm", "Eff", "Amb")),
        ]

    @pytest.mark.parametrize("user", ["games", "daemon", "root"])
    def test_another_may_be_chosen_with_all_groups(self, user: str) -> None:
        done = of_command(*_QUICK, "--as-user", user, "--", "id", env=self.SUDO)
        assert done.out == subprocess.run(["id", user], capture_output=True, check=True).stdout

    def test_without_sudo_it_runs_as_the_caller(self) -> None:
        assert of_command(*_QUICK, "--", "id", "-u").out == b"0\n"
        nobody = of_command(*_QUICK, "--", "id", "-u", before=AS_NOBODY, env={"SUDO_UID": "0"})
        assert (nobody.code, nobody.out) == (0, f"{NOBODY}\n".encode())

    def test_a_user_without_a_name_is_possible(self) -> None:
        left = {"SUDO_UID": "4000000000", "SUDO_GID": "4000000001"}
        done = of_command(*_QUICK, "--", "id", env=left)
        assert done.out == b"uid=4000000000 gid=4000000001 groups=4000000001\n"

    @pytest.mark.parametrize(
        "left",
        [{"SUDO_UID": text} for text in ("", "-1", "x", "1 ", "4294967295", "9" * 5000, "\u0661")]
        + [{"SUDO_UID": "65534", "SUDO_GID": "4294967295"}, {"SUDO_UID": "4000000000"}],
        ids=lambda left: ",".join(left.values())[:12],
    )
    def test_what_sudo_cannot_have_left_is_refused(self, left: dict[str, str]) -> None:
        result = run("trace", "--", "true", env=left)
        assert (result.code, result.out) == (2, "")
        assert "SUDO_" in result.sentence()

    def test_only_root_may_choose(self) -> None:
        result = run("trace", "--as-user", "games", "--", "true", before=AS_NOBODY)
        assert (result.code, result.out) == (77, "")
        assert "sudo" in result.sentence()

    def test_one_who_does_not_exist_is_a_usage_error(self) -> None:
        result = run("trace", "--as-user", "no such", "--", "true")
        assert (result.code, result.out) == (2, "")
        assert "'no such'" in result.sentence()

    def test_files_are_found_with_the_users_rights(self, tmp_path: Path) -> None:
        (tmp_path / "tool").symlink_to("/bin/true")
        tmp_path.chmod(0o700)
        result = run("trace", "--as-user", "nobody", "--", f"{tmp_path}/tool")
        assert result.code == 126
        assert "Permission denied" in result.sentence()


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
        options = (*_QUICK[2:], "--source", source, "--wait", "command")
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
        with tracing(*_QUICK, "--", "sh", "-c", "trap '' TERM; echo $$; exec sleep 1000") as trace:
            pid = int(wait_until("the command runs", trace.out))
            result = trace.stop(signal.SIGTERM)
        try:
            assert result.code == 128 + signal.SIGTERM
            assert f"sh (PID {pid}) is still running" in result.err.splitlines()[-1]
            os.kill(pid, 0)
        finally:
            os.kill(pid, signal.SIGKILL)

    def test_those_it_left_are_not_waited_for_then(self) -> None:
        with tracing(
            *_QUICK, "--", "sh", "-c", "setsid sleep 1000 & echo $!; exec sleep 1001"
        ) as t:
            pid = int(wait_until("the command runs", t.out))
            result = t.stop(signal.SIGTERM)
        os.kill(pid, signal.SIGKILL)
        assert result.code == 128 + signal.SIGTERM

    def test_an_interrupt_that_only_we_get_is_ignored_while_it_runs(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "gate")
        script = f"echo set up; read x < {tmp_path}/gate; exit 5"
        with tracing(*_QUICK, "--", "sh", "-c", script) as trace:
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
        with tracing("-d", "0.5", *_QUICK, "--", "sh", "-c", script) as trace:
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
