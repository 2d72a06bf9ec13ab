"""Each option that takes a number takes all within its limits and refuses all beyond them.

The options are found by asking the program, so that a new one is tried as well.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import pytest
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo
from typer.testing import CliRunner

from proctree_bpf import Collector
from proctree_bpf.cli import app as cli
from proctree_bpf.cli.commands import trace
from proctree_bpf.core.model import CacheParams
from proctree_bpf.errors import FilterError
from proctree_bpf.filters.terms import NOT, TERMS, Value, question
from proctree_bpf.sources.bpf import BpfOptions
from proctree_bpf.sources.walker import WalkerSource
from support.program import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NUMBERS = (int, float)
_WORDS = {"pid": "1", "name": "sh"}


@dataclass(frozen=True)
class Numeric:
    """An option or argument that takes a number."""

    command: str
    name: str
    kind: type
    least: float
    most: float
    words: tuple[str, ...] = ()
    """What the command needs beside it."""

    def __str__(self) -> str:
        return f"{self.command} {self.name}"

    @property
    def is_option(self) -> bool:
        return self.name.startswith("-")

    def with_value(self, value: str) -> list[str]:
        if self.is_option:
            return [self.command, *self.words, f"{self.name}={value}"]
        return [self.command, "--", value, *self.words]

    def beyond(self) -> list[str]:
        """Values that it must refuse: next to its limits, and far away."""
        values = ["nan", "inf", "-inf", "1e300", "-1e300", "1" + "0" * 400, "-1", "", "x", "0x10"]
        if self.name == "--duration":
            values.remove("inf")  # a trace may be without end
        if math.isfinite(self.most):
            values.append(f"{self.most + 1:.0f}")
        return [*values, f"{self.least - 1:.0f}"]


def _parameters(command: Callable[..., Any]) -> Iterator[tuple[str, type, Any]]:
    """Yield the name, the type and what typer is told of each parameter of a command."""
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kinds = [parameter.annotation, *get_args(parameter.annotation)]
        told = next(kind for kind in kinds if isinstance(kind, ParameterInfo))
        plain = get_args(parameter.annotation)[0]
        within = {plain, *get_args(plain), *(k for arg in get_args(plain) for k in get_args(arg))}
        kind = next((number for number in _NUMBERS if number in within), str)
        yield parameter.name, kind, told


def _typed() -> list[Numeric]:
    found = []
    for entry in cli.app.registered_commands:
        assert entry.callback is not None
        command = entry.name or entry.callback.__name__
        parameters = list(_parameters(entry.callback))
        required = [name for name, _, told in parameters if isinstance(told, ArgumentInfo)]
        for name, kind, told in parameters:
            if kind not in _NUMBERS:
                continue
            is_option = isinstance(told, OptionInfo)
            words = [_WORDS[other] for other in required if other in _WORDS and other != name]
            shown = f"--{name.replace('_', '-')}" if is_option else str(told.metavar)
            least = -math.inf if told.min is None else told.min
            most = math.inf if told.max is None else told.max
            if name == "duration":
                least, most = 0, 10**9  # it checks itself, because it may also be endless
            found.append(Numeric(command, shown, kind, least, most, tuple(words)))
    return found


def _terms() -> list[Numeric]:
    limits = {Value.PID: (1, 2**32 - 1), Value.SECONDS: (0, 10**9)}
    return [
        Numeric("trace", f"--{prefix}{term.name}", float, *limits[term.value])
        for term in TERMS.values()
        if term.value in limits
        for prefix in ("", NOT)
    ]


_TYPED = _typed()
_ALL = [*_TYPED, *_terms()]


def test_the_options_of_all_commands_are_found() -> None:
    assert {"--ttl", "--duration", "--capacity", "--max-args"} <= {n.name for n in _TYPED}
    assert {n.command for n in _TYPED} >= {"trace", "tree", "chain", "is-descendant"}


@pytest.mark.parametrize("numeric", _TYPED, ids=str)
def test_each_says_what_its_limits_are(numeric: Numeric) -> None:
    assert math.isfinite(numeric.least)
    assert math.isfinite(numeric.most)


@pytest.mark.parametrize("numeric", _ALL, ids=str)
def test_what_is_beyond_its_limits_is_a_usage_error(
    numeric: Numeric, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[object] = []
    monkeypatch.setattr(trace, "run_trace", taken.append)
    for value in numeric.beyond():
        result = CliRunner().invoke(cli.app, numeric.with_value(value))
        assert (result.exit_code, taken) == (2, []), f"{numeric}={value}: {result}"
        assert numeric.name.lstrip("-").strip("[]") in result.stderr, value


@pytest.mark.parametrize("limit", ["least", "most"])
@pytest.mark.parametrize("numeric", [n for n in _ALL if n.command == "trace"], ids=str)
def test_a_trace_works_at_the_limits(numeric: Numeric, limit: str) -> None:
    value = f"{getattr(numeric, limit):.0f}"
    if numeric.name in ("--ancestor-pid", "--not-ancestor-pid"):
        value = "1"  # there must be such a process
    # The longest duration is not waited for: it ends with the command.
    is_long = (numeric.name, limit) == ("--duration", "most")
    end = ["-o", "/dev/null", "--", "true"] if is_long else []
    if numeric.name != "--duration":
        end = ["--duration", "0.05"]
    result = run(*numeric.with_value(value), "--source", "proc-walker", *end)
    assert result.code == 0, result
    assert "error" not in result.err


@pytest.mark.parametrize("limit", ["least", "most"])
@pytest.mark.parametrize("numeric", [n for n in _TYPED if n.command != "trace"], ids=str)
def test_a_query_answers_at_the_limits(numeric: Numeric, limit: str) -> None:
    result = run(*numeric.with_value(str(int(getattr(numeric, limit)))))
    assert result.code in (0, 1)
    assert "error" not in result.err


@pytest.mark.parametrize("seconds", [math.inf, math.nan, -1, 1e300, 1e9 + 1])
def test_the_bounds_of_a_store_refuse_a_ttl_that_cannot_be_kept(seconds: float) -> None:
    with pytest.raises(ValueError, match="ttl_secs must be from 0 to 1000000000"):
        CacheParams(ttl_secs=seconds)


@pytest.mark.parametrize("capacity", [0, -1, math.nan])
def test_the_bounds_of_a_store_refuse_a_capacity_of_nothing(capacity: float) -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        CacheParams(capacity)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "limits"),
    [("pid", "0", "1 to 4294967295"), ("min-age", "inf", "0 to 1000000000")],
)
def test_a_filter_says_what_its_limits_are(name: str, value: str, limits: str) -> None:
    with pytest.raises(FilterError, match=limits):
        question(name, [value])


@pytest.mark.parametrize("seconds", [math.inf, math.nan, -1, 1e10, 1e300])
def test_a_collector_refuses_a_time_that_cannot_be_waited(seconds: float) -> None:
    with pytest.raises(ValueError, match="interval_s must be from 0 to 3600"):
        Collector(interval_s=seconds)


@pytest.mark.parametrize("seconds", [math.inf, math.nan, -1, 1e10, 1e300])
def test_a_walker_refuses_a_time_that_cannot_be_between_walks(seconds: float) -> None:
    with pytest.raises(ValueError, match="interval_s must be from 0 to 86400"):
        WalkerSource(seconds)


@pytest.mark.parametrize("value", [0, -1, 2**32, 1.5, math.nan, math.inf, True, "1"], ids=repr)
@pytest.mark.parametrize("name", ["max_args_bytes", "perf_pages", "filter_slots"])
def test_the_options_for_bpf_refuse_what_would_mean_something_else_in_its_program(
    name: str, value: object
) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an integer between 1 and"):
        BpfOptions(**{name: value})  # type: ignore[arg-type]
