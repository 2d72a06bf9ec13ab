"""The command line itself: what it refuses, and what it tells about itself."""

from __future__ import annotations

import os
import re
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from support.program import PROGRAM, PYTHON_ENTRY, run

if TYPE_CHECKING:
    from pathlib import Path

_COMMANDS = (
    "trace", "tree", "chain", "children", "descendants", "siblings", "find", "is-descendant",
    "doctor",
)  # fmt: skip
_NO_PID = (
    "0",
    "-1",
    "-4194304",
    "4294967295",
    "99999999999999999999",
    "init",
    "1.5",
    "",
    "\u0661x",
)


@pytest.mark.parametrize("pid", _NO_PID)
def test_what_cannot_be_a_pid_is_a_usage_error(pid: str) -> None:
    assert "PID" in run("chain", "--", pid).usage_error()


@pytest.mark.parametrize("words", [("tree", "0"), ("is-descendant", "0", "sh")], ids=" ".join)
def test_every_query_refuses_pid_0(words: tuple[str, ...]) -> None:
    assert "PID" in run(*words).usage_error()


def test_a_query_without_its_pid_is_a_usage_error() -> None:
    assert "PID" in run("children").usage_error()


def test_find_needs_something_to_look_for() -> None:
    result = run("find")
    assert (result.code, result.out) == (2, "")
    assert "--cmd" in result.sentence()


@pytest.mark.parametrize(
    "options",
    [
        ("-e", "open"),
        ("-e", "fork,open"),
        ("-e", ""),
        ("-f", "xml"),
        ("-d", "-1"),
        ("-d", "nan"),
        ("--interval", "0"),
        ("--interval", "1001"),
        ("--max-args-bytes", "0"),
        ("--max-args-bytes", "32769"),
        ("--perf-pages", "3"),
        ("--perf-pages", "100000"),
        ("--capacity", "0"),
        ("--source", "ebpf"),
        ("--source", "replay:"),
        ("--receive-buffer", "0"),
        ("--walk-interval", "9"),
        ("--ttl", "-1"),
        ("--ttl", "nan"),
    ],
    ids="=".join,
)
def test_trace_refuses_an_option_out_of_range(options: tuple[str, str]) -> None:
    assert options[0] in run("trace", *options).usage_error()


def test_an_unknown_command_is_a_usage_error() -> None:
    assert "watch" in run("watch").usage_error()


def test_no_command_at_all_shows_what_there_is() -> None:
    result = run()
    assert result.code == 2
    assert all(command in result.out + result.err for command in _COMMANDS)


def test_help_lists_every_command_with_a_whole_sentence() -> None:
    listed = run("--help").out.partition("Commands:\n")[2]
    told = dict(line.split(maxsplit=1) for line in listed.splitlines())
    assert sorted(told) == sorted(_COMMANDS)
    assert {name: text for name, text in told.items() if text.endswith(("...", ":"))} == {}


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = run(command, "-h")
    assert (result.code, result.err) == (0, "")
    assert re.search(rf"^ +(sudo )?proctree-bpf {command}\b", result.out, re.MULTILINE)


def test_help_can_be_shown_where_only_ascii_can() -> None:
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = run("chain", "--help", env=env, program=PYTHON_ENTRY)
    assert (result.code, result.err) == (0, "")


def test_the_version_is_the_packages() -> None:
    assert run("--version").out == f"proctree-bpf {metadata.version('proctree-bpf')}\n"


@pytest.mark.skipif(len(PROGRAM) > 1, reason="needs the installed script proctree-bpf")
def test_completion_names_the_program() -> None:
    # Asked as the shell asks: the variable selects what to print.
    result = run(env={"_PROCTREE_BPF_COMPLETE": "source_bash"})
    assert (result.code, result.err) == (0, "")
    assert "proctree-bpf" in result.out
    assert "_PROCTREE_BPF_COMPLETE=complete_bash" in result.out


@pytest.mark.skipif(len(PROGRAM) > 1, reason="needs the installed script proctree-bpf")
def test_completion_offers_the_commands() -> None:
    asked = {
        "_PROCTREE_BPF_COMPLETE": "complete_bash",
        "COMP_WORDS": "proctree-bpf ",
        "COMP_CWORD": "1",
    }
    assert sorted(run(env=asked).out.split()) == sorted(_COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_but_not_installed_through_links_in_a_home(
    tmp_path: Path, shell: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious\n")
    home = tmp_path / "home"
    home.mkdir()
    for name in (".bashrc", ".zshrc"):
        (home / name).symlink_to(precious)
    for name in (".bash_completions", ".zfunc", ".config"):
        (home / name).symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    env = {"HOME": str(home), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "--install-completion" in run("--install-completion", shell, env=env).usage_error()
    assert precious.read_text() == "precious\n"
    assert sorted(tmp_path.rglob("*")) == before
    shown = run("--show-completion", shell, env=env)
    assert (shown.code, shown.err) == (0, "")
    assert f"_PROCTREE_BPF_COMPLETE=complete_{shell}" in shown.out


@pytest.mark.parametrize(
    "asked",
    [
        {"_PROCTREE_BPF_COMPLETE": "garbage"},
        {"_PROCTREE_BPF_COMPLETE": "complete_\x1b[31m"},
        {"_PROCTREE_BPF_COMPLETE": "complete_bash"},
        {"_PROCTREE_BPF_COMPLETE": "complete_bash", "COMP_WORDS": "x", "COMP_CWORD": "x"},
        {"_PROCTREE_BPF_COMPLETE": "complete_bash", "COMP_WORDS": "x", "COMP_CWORD": "9" * 5000},
    ],
    ids=["no instruction", "hostile", "no words", "no number", "no number of words"],
)
def test_what_is_no_question_of_a_shell_is_told(asked: dict[str, str]) -> None:
    result = run(env=asked)
    assert result.code == 2
    assert "_PROCTREE_BPF_COMPLETE" in result.sentence()


@pytest.mark.parametrize("left", ["source_bash", "garbage"])
def test_a_variable_of_completion_that_was_left_behind_keeps_no_command_from_running(
    left: str,
) -> None:
    result = run("chain", str(os.getpid()), env={"_PROCTREE_BPF_COMPLETE": left})
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"{os.getpid()}|")


_HOSTILE = "\x1b[2J\u202egnp.exe\u2066\x07\nError: no\x9b31m"
_PLACES = [
    (_HOSTILE,),
    (f"--{_HOSTILE}",),
    ("trace", f"--{_HOSTILE}"),
    ("trace", f"-{_HOSTILE}"),
    ("trace", f"--ttl{_HOSTILE}=1"),
    ("trace", "--ttl", _HOSTILE),
    ("trace", "--perf-pages", _HOSTILE),
    ("trace", "-f", _HOSTILE),
    ("trace", "-e", _HOSTILE),
    ("trace", "--fields", _HOSTILE),
    ("trace", "--color", _HOSTILE),
    ("trace", "--source", _HOSTILE),
    ("trace", "--source", f"replay:/{_HOSTILE}"),
    ("trace", "--wait", _HOSTILE),
    ("trace", "--filter-in", _HOSTILE),
    ("trace", "--as-user", _HOSTILE, "true"),
    ("trace", "--ancestor-pid", _HOSTILE),
    ("trace", "--ancestor-re", f"({_HOSTILE}"),
    ("trace", f"--quiet={_HOSTILE}"),
    ("trace", "-o", f"/{_HOSTILE}/x"),
    ("trace", "--stats-file", f"/{_HOSTILE}/x"),
    ("trace", "--record", f"/{_HOSTILE}/x"),
    ("trace", "--", f"/{_HOSTILE}"),
    ("chain", _HOSTILE),
    ("chain", "1", _HOSTILE),
    ("tree", "-f", _HOSTILE),
    ("find", f"--{_HOSTILE}"),
    ("doctor", _HOSTILE),
    ("is-descendant", "1", "a", _HOSTILE),
]


@pytest.mark.parametrize("words", _PLACES, ids=lambda words: " ".join(words)[:16].strip())
def test_a_hostile_word_is_repeated_harmlessly(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.code in {2, 65, 77, 127}
    lines = result.err.split("\n")
    assert all(line.isprintable() for line in lines), result.err
    assert not any(line.startswith("Error: no") for line in lines), result.err
