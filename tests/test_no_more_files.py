"""Where this process can have no more files open: nobody is taken for gone, no output failed."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import (
    Collector,
    ProcConnectorSource,
    ProcessTree,
    SourceFailedError,
    WalkerSource,
)
from proctree_bpf.sources.system.procfs import read_stat
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf import EventSource

SOURCES = {"proc-connector": ProcConnectorSource, "proc-walker": WalkerSource}


@contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_is_not_taken_for_gone() -> None:
    process = ProcessTree.from_proc().process(os.getpid())
    with no_more_files():
        for ask in (process.is_running, process.ppid, process.parent):
            with pytest.raises(SourceFailedError, match=r"cannot be read .Too many open files"):
                ask()
        with pytest.raises(OSError, match="Too many open files"):
            read_stat(os.getpid())
    assert process.is_running()


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_fails_and_says_so(name: str) -> None:
    source: EventSource = SOURCES[name]()
    live = Collector(source)
    live.start()
    with no_more_files():
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        thread = live._thread
        assert thread is not None
        wait_until("its thread ends", lambda: not thread.is_alive())
    # poll(2) calls more descriptors than there may be an invalid argument.
    with pytest.raises(SourceFailedError, match=r"Too many open files|cannot be waited for"):
        live.stop()
    ended = {process.pid for process in live.tree if process.exited_ns is not None}
    assert os.getpid() not in ended
