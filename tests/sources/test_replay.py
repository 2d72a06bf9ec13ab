"""Recordings of earlier versions can still be replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.codecs.inputs import CpuCounters
from proctree_bpf.codecs.recording import (
    FrameKind,
    decode_recording,
    encode_drain,
    encode_end,
    encode_header,
)
from proctree_bpf.codecs.sample_decoder import ALWAYS_TOLD
from proctree_bpf.sources.replay import ReplaySource
from support import golden_data

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf import ProcEvent


def told(path: Path) -> tuple[list[ProcEvent], int]:
    """Return all events of a recording, and its last watermark."""
    source = ReplaySource(path)
    source.open()
    events: list[ProcEvent] = []
    while True:
        delivery = source.poll()
        events += delivery.events
        if delivery.end:
            source.close()
            return events, delivery.watermark_ns


def test_a_recording_from_before_a_kind_of_sample_was_added_is_replayed(tmp_path: Path) -> None:
    header, *frames = decode_recording(golden_data.recording("ends-bpf")).frames
    drains = [frame.content for frame in frames if frame.kind is FrameKind.DRAIN]
    kinds = len(ALWAYS_TOLD)
    paths = [tmp_path / "today", tmp_path / "before"]
    for path, counted in zip(paths, (None, kinds), strict=True):
        cut = [
            drain._replace(
                counters=[
                    CpuCounters(one.begun[:counted], one.failed[:counted]) for one in drain.counters
                ]
            )
            for drain in drains
        ]
        path.write_bytes(
            encode_header(header.content) + b"".join(map(encode_drain, cut)) + encode_end()
        )
    today, before = map(told, paths)
    assert today == before
    assert len(today[0]) > len(drains)
