"""Where golden recordings and what they replay to are kept, and how two runs are compared.

``data/NAME.recording.xz`` is a recording; ``data/NAME.expected.tar.xz`` holds a file for each
replay and kind of text, named ``REPLAY/KIND``.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATA = Path(__file__).parents[1] / "golden" / "data"
_RECORDING, _EXPECTED = ".recording.xz", ".expected.tar.xz"
_PRESET = 9 | lzma.PRESET_EXTREME
_MOST_SHOWN = 12
_MOST_CHARACTERS = 400

Texts = dict[str, list[str]]
"""Lines by ``REPLAY/KIND``."""


def names() -> list[str]:
    """Return the names of all recordings."""
    return sorted(path.name.removesuffix(_RECORDING) for path in DATA.glob(f"*{_RECORDING}"))


def keep_recording(name: str, data: bytes) -> int:
    """Keep a recording; return its size on disk."""
    packed = lzma.compress(data, preset=_PRESET)
    (DATA / f"{name}{_RECORDING}").write_bytes(packed)
    return len(packed)


def recording(name: str) -> bytes:
    """Return a recording as ``--record`` wrote it."""
    return lzma.decompress((DATA / f"{name}{_RECORDING}").read_bytes())


def keep_expected(name: str, texts: Mapping[str, list[str]]) -> int:
    """Keep what a recording replays to; return its size on disk."""
    path = DATA / f"{name}{_EXPECTED}"
    with tarfile.open(path, "w:xz", preset=_PRESET) as archive:
        # Like beside like, for they share most of their lines.
        for member, lines in sorted(texts.items()):
            data = "\n".join(lines).encode("utf-8", "surrogateescape")
            about = tarfile.TarInfo(member)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path.stat().st_size


def expected(name: str) -> Texts:
    """Return what a recording is to replay to; nothing if that was never kept."""
    path = DATA / f"{name}{_EXPECTED}"
    if not path.exists():
        return {}
    texts = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            texts[member.name] = file.read().decode("utf-8", "surrogateescape").split("\n")
    return texts


def difference(wanted: list[str], got: list[str]) -> str | None:
    """Say where two texts part for the first time, field by field for JSON; None if nowhere."""
    if wanted == got:
        return None
    number, (old, new) = next(
        (n, pair) for n, pair in enumerate(zip_longest(wanted, got), start=1) if pair[0] != pair[1]
    )
    differing = sum(a != b for a, b in zip_longest(wanted, got))
    head = (
        f"line {number} is the first of {differing} that differ "
        f"({len(wanted)} lines expected, {len(got)} came)"
    )
    return "\n".join([head, *_of_line(old, new)])


def _of_line(old: str | None, new: str | None) -> list[str]:
    if old is not None and new is not None:
        try:
            was, now = dict(_leaves(json.loads(old))), dict(_leaves(json.loads(new)))
        except ValueError:
            pass
        else:
            names = [name for name in was | now if was.get(name) != now.get(name)]
            lines = [f"  {name}: {was.get(name)!r} -> {now.get(name)!r}" for name in names]
            more = [f"  and {len(lines) - _MOST_SHOWN} more fields"] * (len(lines) > _MOST_SHOWN)
            whose = f"  of {_whose(was)}" + (
                f", now of {_whose(now)}" * (_whose(was) != _whose(now))
            )
            return [whose, *lines[:_MOST_SHOWN], *more] if names else _raw(old, new)
    return _raw(old, new)


def _raw(old: str | None, new: str | None) -> list[str]:
    shown = ["nothing" if line is None else repr(line)[:_MOST_CHARACTERS] for line in (old, new)]
    return [f"  expected {shown[0]}", f"  came     {shown[1]}"]


def _whose(leaves: Mapping[str, Any]) -> str:
    action = leaves.get("event.action", "line")
    return f"{action} of {leaves.get('process.pid', leaves.get('pid', 'none'))}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that is in a JSON value, by its path."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value
