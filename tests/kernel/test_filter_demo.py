"""The demo, followed live by the name of the process that everything in it descends from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from support.program import tracing

_DEMO = Path(__file__).parents[2] / "scripts" / "demo"
_TRIES = 5  # of 30 each


def _chain(record: dict[str, Any]) -> list[str]:
    return [link["name"] for link in record["proctree"]["chain"]]


def test_the_demo_is_seen_whole_and_nothing_else_is() -> None:
    told, tries = None, 0
    while told is None:  # other processes may take the PID that is to be had again
        tries += 1
        assert tries <= _TRIES, "a PID could never be had again"
        with tracing("--ancestor", "demo", "-f", "jsonl", "-e", "exec,exit") as trace:
            done = subprocess.run([_DEMO, "1"], capture_output=True, text=True, check=True)
            records = trace.stop().records()
        told = re.search(r"latter: has PID (\d+),", done.stdout)
    others = [r for r in records if "demo" not in [r["process"]["name"], *_chain(r)]]
    assert others == []
    execs = [record for record in records if record["event"]["action"] == "exec"]
    chains = {record["process"]["name"]: _chain(record) for record in execs}
    assert [record["process"]["name"] for record in execs].count("brief") == 3
    assert chains["daemon"][:2] == ["middle", "demo"]
    assert chains["orphan"][:2] == ["former", "demo"]
    assert chains["latter"][0] == "demo"
    pids = {
        record["process"]["name"]: record["process"]["pid"]
        for record in execs
        if record["process"]["name"] != "latter" or record["process"]["pid"] == int(told[1])
    }
    assert pids["former"] == pids["latter"] == int(told[1])
