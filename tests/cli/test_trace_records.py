"""What one trace tells of processes that we started, against what we know of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proctree_bpf import parse_chain_string, unescape
from support.program import actions, json_lines, of_command, of_process, run, tracing

if TYPE_CHECKING:
    from support.program import Result

pytestmark = pytest.mark.kernel

_RAW_ARG = b"a\xff|\n\xc3\xa4"


@dataclass(frozen=True)
class Story:
    """A trace with what happened during it."""

    result: Result
    records: list[dict[str, Any]]
    stats: dict[str, Any]
    leaver: int  # exit status 3
    victim: int  # killed by SIGKILL
    forker: int  # runs a subshell, which never calls exec and exits with 7
    subshell: int
    raw: int  # with an argument of bytes that are not UTF-8
    wordy: int  # with more arguments than are kept
    snapshot_style: dict[str, Any]  # what a query said of the victim
    last: list[list[str]]  # what was run just before the signal

    def of(self, pid: int) -> list[dict[str, Any]]:
        return of_process(self.records, pid)

    def only(self, pid: int, action: str) -> dict[str, Any]:
        (found,) = (r for r in self.of(pid) if r["event"]["action"] == action)
        return found


def spawn(*words: str | bytes) -> int:
    """Run a command to its end, without a shell of ours in between; return its PID."""
    pid = os.posix_spawnp(words[0], words, os.environ)
    os.waitpid(pid, 0)
    return pid


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One trace for all tests of this file: starting one costs half a second."""
    directory = tmp_path_factory.mktemp("story")
    out, stats = directory / "events.jsonl", directory / "stats.json"
    options = ("-f", "jsonl", "-e", "fork,exec,exit", "-o", str(out), "--stats-file", str(stats))
    with tracing(*options) as trace:
        leaver = spawn("sh", "-c", "exit 3", "two words")
        with subprocess.Popen(["sleep", "60"]) as victim:
            (snapshot_style,) = json.loads(run("tree", str(victim.pid), "-f", "json").out)
            victim.kill()
        shell = subprocess.run(
            ["bash", "-c", "(exit 7) & echo $$ $!; wait"], check=True, capture_output=True
        )
        forker, subshell = map(int, shell.stdout.split())
        raw = spawn(b"true", _RAW_ARG)
        wordy = spawn("true", "x" * 5000)
        last = [["true", f"{directory}/{number}"] for number in range(50)]
        for command in last:
            spawn(*command)
        result = trace.stop(signal.SIGTERM)
    return Story(
        result, json_lines(out.read_text()), json.loads(stats.read_text()),
        leaver, victim.pid, forker, subshell, raw, wordy, snapshot_style, last,
    )  # fmt: skip


class TestRecords:
    def test_a_process_is_born_execs_and_exits_in_this_order(self, story: Story) -> None:
        assert actions(story.of(story.leaver)) == ["fork", "exec", "exit"]

    def test_a_fork_is_told_from_the_childs_side(self, story: Story) -> None:
        fork = story.only(story.subshell, "fork")
        assert fork["process"]["pid"] == story.subshell
        assert fork["process"]["name"] == "bash"
        assert fork["proctree"]["creator"]["pid"] == story.forker
        assert fork["proctree"]["creator"]["name"] == "bash"
        assert fork["proctree"]["inherited"] is True
        assert fork["process"]["args"] == story.only(story.forker, "exec")["process"]["args"]

    def test_a_process_that_never_execs_has_no_exec_record(self, story: Story) -> None:
        assert actions(story.of(story.subshell)) == ["fork", "exit"]

    def test_an_exec_carries_what_was_run(self, story: Story) -> None:
        process = story.only(story.leaver, "exec")["process"]
        assert process["args"] == ["sh", "-c", "exit 3", "two words"]
        assert process["command_line"] == "sh -c 'exit 3' 'two words'"
        assert process["name"] == "sh"
        assert Path(process["executable"]).samefile("/bin/sh")
        assert process["user"] == {"id": "0", "name": "root"}
        assert process["parent"]["pid"] == os.getpid()

    def test_an_exit_repeats_what_is_known_of_the_process(self, story: Story) -> None:
        begun, ended = (story.only(story.leaver, action) for action in ("exec", "exit"))
        for name in ("name", "executable", "args", "command_line", "user", "entity_id", "start"):
            assert ended["process"][name] == begun["process"][name]
        assert ended["process"]["exit_code"] == 3
        assert ended["process"]["end"] == ended["@timestamp"]
        assert ended["proctree"]["exit_signal"] is None

    def test_a_killed_process_has_a_signal_and_no_exit_code(self, story: Story) -> None:
        ended = story.only(story.victim, "exit")
        assert ended["process"]["exit_code"] is None
        assert ended["proctree"]["exit_signal"] == signal.SIGKILL

    def test_the_chain_leads_from_the_parent_to_the_root(self, story: Story) -> None:
        chain = story.only(story.subshell, "exit")["proctree"]["chain"]
        assert [link["pid"] for link in chain[:2]] == [story.forker, os.getpid()]
        assert chain[-1]["pid"] == 1

    def test_times_are_utc_with_nanoseconds(self, story: Story) -> None:
        for record in story.of(story.leaver):
            for time in (record["@timestamp"], record["process"]["start"]):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", time)

    def test_records_come_in_the_order_of_their_times(self, story: Story) -> None:
        times = [record["@timestamp"] for record in story.records]
        assert times == sorted(times)

    def test_the_id_is_the_one_a_query_gives(self, story: Story) -> None:
        traced = {record["process"]["entity_id"] for record in story.of(story.victim)}
        assert traced == {story.snapshot_style["entity_id"]}

    def test_bytes_that_are_not_utf8_come_back_through_unescape(self, story: Story) -> None:
        record = story.only(story.raw, "exec")
        assert record["proctree"]["escaped"] is True
        assert [os.fsencode(unescape(arg)) for arg in record["process"]["args"]] == [
            b"true",
            _RAW_ARG,
        ]

    def test_arguments_beyond_the_limit_are_cut_and_flagged(self, story: Story) -> None:
        record = story.only(story.wordy, "exec")
        assert record["proctree"]["truncated"] is True
        assert "".join(record["process"]["args"]).startswith("truexxxx")
        assert len("\0".join(record["process"]["args"])) <= 4096

    def test_arguments_within_the_limit_are_not_flagged(self, story: Story) -> None:
        assert story.only(story.leaver, "exec")["proctree"]["truncated"] is False

    def test_what_happened_just_before_the_signal_is_there_whole(self, story: Story) -> None:
        for command in story.last:
            records = of_command(story.records, command)
            assert actions(records) == ["fork", "exec", "exit"]
            assert records[-1]["process"]["args"] == command

    def test_the_source_is_named(self, story: Story) -> None:
        assert {record["proctree"]["source"] for record in story.records} == {"bpf"}


class TestMessages:
    def test_stdout_is_empty_when_records_go_to_a_file(self, story: Story) -> None:
        assert story.result.out == ""

    def test_stderr_has_the_start_and_the_summary(self, story: Story) -> None:
        start, summary, *more = story.result.err.splitlines()
        assert re.fullmatch(
            r"proctree-bpf: tracing with bpf, \d+ processes known, started in \d+\.\d\d s; .*",
            start,
        )
        assert re.fullmatch(r"proctree-bpf: \d+\.\d s: .* records written; nothing lost", summary)
        titles = [line.split(": ")[1] for line in more]
        assert titles == ["ran most", "ran longest", "failed"]

    def test_the_summary_counts_what_was_written(self, story: Story) -> None:
        written = actions(story.records)
        for kind in ("fork", "exec", "exit"):
            assert f"{written.count(kind)} {kind}" in story.result.err


class TestStatistics:
    def test_written_is_what_the_file_holds(self, story: Story) -> None:
        written = actions(story.records)
        assert story.stats["written"] == {
            kind: written.count(kind) for kind in ("fork", "exec", "exit")
        }

    def test_nothing_was_lost_late_or_undecodable(self, story: Story) -> None:
        names = ("lost", "late", "undecodable", "gaps", "missed")
        assert {name: story.stats[name] for name in names} == dict.fromkeys(names, 0)

    def test_every_received_record_is_accounted_for(self, story: Story) -> None:
        stats = story.stats
        known = stats["duplicates"] + stats["unchanged"]
        assert stats["received"] == stats["applied"] + known
        assert stats["received"] >= len(story.records)

    def test_kinds_and_cpus_each_add_up_to_the_whole(self, story: Story) -> None:
        kinds = story.stats["by_kind"]
        assert set(kinds) == {"fork", "exec", "exit", "rename"}
        assert sum(kind["received"] for kind in kinds.values()) == story.stats["received"]
        for kind, counted in kinds.items():
            per_cpu = [cpu[kind] for cpu in story.stats["by_cpu"]]
            for what in ("received", "lost"):
                assert sum(cpu[what] for cpu in per_cpu) == counted[what]

    def test_every_cpu_is_listed_once(self, story: Story) -> None:
        cpus = [cpu["cpu"] for cpu in story.stats["by_cpu"]]
        assert set(os.sched_getaffinity(0)) <= set(cpus)
        assert len(set(cpus)) == len(cpus)

    def test_the_phases_of_the_start_are_part_of_its_time(self, story: Story) -> None:
        seconds = dict(story.stats["startup_seconds"])
        total = seconds.pop("total")
        assert set(seconds) == {"btf", "import_bcc", "compile", "attach", "snapshot"}
        assert all(phase >= 0 for phase in seconds.values())
        assert sum(seconds.values()) <= total

    def test_the_snapshot_knew_the_processes_of_the_machine(self, story: Story) -> None:
        assert story.stats["snapshot"]["processes"] >= 2
        assert story.stats["source"] == "bpf"


class TestOtherFormats:
    def test_the_chain_format_is_one_parsable_chain_a_line(self) -> None:
        with tracing("-f", "chain", "-e", "exec") as trace:
            pid = spawn("sh", "-c", "exit 0")
            result = trace.stop()
        chains = [line.split("\t") for line in result.out.splitlines()]
        assert {kind for kind, _ in chains} == {"exec"}
        (links,) = (
            links
            for links in (parse_chain_string(text) for _, text in chains)
            if [link.pid for link in links[:2]] == [pid, os.getpid()]
        )
        assert links[0].cmd == "sh"
        assert links[-1].pid == 1

    def test_a_piped_table_has_a_header_rows_and_no_escape_sequence(self) -> None:
        with tracing() as trace:
            pid = spawn("sh", "-c", "exit 3", "w" * 300)
            result = trace.stop()
        header, *rows = result.out.splitlines()
        columns = "TIME EVENT PID PPID USER COMM EXIT AGE COMMAND ANCESTRY"
        assert " ".join(header.split()) == columns
        mine = [row.split() for row in rows if "w" * 300 in row]
        assert {row[2] for row in mine} == {str(pid)}
        assert [row[1] for row in mine] == ["exec", "exit"]
        assert mine[1][6] == "3"
        assert result.out.replace("\n", "").isprintable()
