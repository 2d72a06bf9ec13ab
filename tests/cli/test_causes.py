"""Each call that fails is told as what it is, with what would help."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.denied_calls import denied
from support.program import PROGRAM, Result, environment, run

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.kernel


def limited(limit: int, amount: int, *args: str) -> Result:
    """Run the program with a limit of resources."""
    done = subprocess.run(
        [*PROGRAM, *args],
        stdin=subprocess.DEVNULL, capture_output=True, env=environment(), timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(limit, (amount, amount)),
    )  # fmt: skip
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def traced(*options: str) -> tuple[str, ...]:
    return ("trace", "-f", "jsonl", "-e", "exit", "-o", os.devnull, *options)


class TestFiles:
    """Where too few may be open, whichever call is the first to fail."""

    @pytest.mark.parametrize("files", range(6, 22))
    @pytest.mark.parametrize("source", ["bpf", "auto"])
    def test_that_is_said_or_it_works(self, source: str, files: int) -> None:
        result = limited(resource.RLIMIT_NOFILE, files, *traced("--source", source, "-d", "0"))
        assert "bug" not in result.err
        assert "Traceback" not in result.err
        if result.code:
            assert result.code == 69
            assert "ulimit -n" in result.sentence()

    def test_twelve_are_too_few_for_bpf(self) -> None:
        """Otherwise the test above could pass for a reason of its own."""
        result = limited(resource.RLIMIT_NOFILE, 12, *traced("--source", "bpf", "-d", "0"))
        assert result.code == 69
        assert "no more than 12 files" in result.sentence()

    @pytest.mark.parametrize("files", range(6, 13))
    @pytest.mark.parametrize("words", [("tree",), ("trace", "--", "/bin/true")])
    def test_it_is_the_same_for_other_commands(self, words: Sequence[str], files: int) -> None:
        result = limited(resource.RLIMIT_NOFILE, files, *words)
        if result.code:
            assert result.code == 69
            assert "ulimit -n" in result.sentence()


class TestMemory:
    """LLVM aborts where it finds too little: it is not begun then."""

    @pytest.mark.parametrize(
        ("limit", "amount", "remedy"),
        [
            (resource.RLIMIT_AS, 300_000, "ulimit -v"),
            (resource.RLIMIT_AS, 200_000, "ulimit -v"),
            (resource.RLIMIT_DATA, 40_000, "ulimit -d"),
            (resource.RLIMIT_STACK, 64, "ulimit -s"),
        ],
    )
    def test_a_limit_that_is_too_low_is_named(self, limit: int, amount: int, remedy: str) -> None:
        words = traced("--source", "bpf", "--no-program-cache", "-d", "0")
        result = limited(limit, amount * 1024, *words)
        assert result.code == 69
        assert remedy in result.sentence()

    def test_the_next_best_source_takes_over(self) -> None:
        result = limited(
            resource.RLIMIT_AS, 300_000 * 1024, *traced("--no-program-cache", "-d", "0")
        )
        assert result.code == 0, result.err
        assert "ulimit -v" in result.err
        assert "tracing with proc-connector" in result.err

    @pytest.mark.parametrize("limit", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
    def test_a_limit_that_is_high_enough_is_no_reason(self, limit: int) -> None:
        words = traced("--source", "bpf", "--no-program-cache", "-d", "0")
        result = limited(limit, 1 << 30, *words)
        assert result.code == 0, result.err


class TestRefusedCalls:
    def test_perf_event_open_is_not_a_matter_of_its_size(self) -> None:
        result = run(*traced("--source", "bpf", "-d", "0"), before=denied("perf_event_open"))
        assert result.code == 69
        assert "perf_event_open" in result.sentence()
        assert "--perf-pages" not in result.err

    @pytest.mark.parametrize("source", ["bpf", "proc-connector", "proc-walker"])
    def test_eventfd_is_no_matter_of_the_output(self, source: str) -> None:
        result = run(*traced("--source", source, "-d", "0"), before=denied("eventfd"))
        assert result.code == 69
        assert "eventfd" in result.sentence()

    @pytest.mark.parametrize("source", ["bpf", "proc-walker"])
    def test_poll_is_no_matter_of_the_output(self, source: str) -> None:
        result = run(*traced("--source", source, "-d", "1"), before=denied("poll"))
        assert result.code == 69
        assert "poll" in result.sentence_after_start()

    def test_poll_for_a_command_is_none_either(self) -> None:
        result = run(*traced("--", "/bin/sleep", "1"), before=denied("poll"))
        assert result.code == 69
        assert "refused poll" in result.err
        assert "output" not in result.err

    def test_pidfd_open_is_no_matter_of_the_output(self) -> None:
        result = run(*traced("--", "/bin/true"), before=denied("pidfd_open"))
        assert result.code == 69
        assert "pidfd_open" in result.sentence()

    def test_a_user_namespace_is_not_taken_for_a_filter(self) -> None:
        result = run(*traced("--source", "bpf"), before=["unshare", "--user", "--map-root-user"])
        assert result.code == 69
        assert "user namespace" in result.sentence()
        assert "seccomp" not in result.err

    def test_nor_does_sudo_help_there(self) -> None:
        result = run(
            *traced("--source", "proc-connector", "-d", "0"),
            before=["unshare", "--user", "--map-root-user"],
        )
        if result.code:  # from 6.6 on, nobody needs a privilege
            assert "user namespace" in result.sentence()

    def test_the_doctor_says_so_too(self) -> None:
        result = run("doctor", "--json", before=["unshare", "--user", "--map-root-user"])
        findings = {each["check"]: each for each in json.loads(result.out)["findings"]}
        assert findings["user namespace"]["verdict"] == "WARN"
        assert "user namespace" in findings["source bpf"]["detail"]
