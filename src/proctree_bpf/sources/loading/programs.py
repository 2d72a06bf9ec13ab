"""Gets the programs that suit this kernel: from those that are kept, else from the compiler."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.codecs import btf, kernel_layout
from proctree_bpf.errors import DecodeError, SourceUnavailableError
from proctree_bpf.filters.kernel_port import MAX_NAMES
from proctree_bpf.sources.loading import bcc_program, compiled, compiling
from proctree_bpf.sources.loading.program_cache import ProgramCache
from proctree_bpf.sources.rings.perf_rings import possible_cpus
from proctree_bpf.sources.system.causes import check_room, unavailable_as

if TYPE_CHECKING:
    from proctree_bpf.sources.loading.compiled import Compiled

# One after another: BCC knows its maps in one file only.
_SENDING, _FILTER, _PROGRAMS = "sending.bpf.c", "filter.bpf.c", "proctree.bpf.c"
_KERNEL_NOTES = Path("/sys/kernel/notes")
# What decides what is kept under a key; read by their paths, since all that they say matters.
_MAKERS = tuple(str(module.__file__) for module in (btf, kernel_layout, bcc_program, compiled))


class Wanted(NamedTuple):
    """Which programs.

    With ``filter_slots``, also a filter that has room for so many processes;
    ``by_file``: it can look for program files, too; every exec costs more then.
    """

    max_args_bytes: int
    filter_slots: int | None = None
    by_file: bool = False

    def source(self) -> bytes:
        """Return the text to compile."""
        files = [_SENDING, _PROGRAMS]
        if self.filter_slots is not None:
            files.insert(1, _FILTER)
        return compiling.source_text(files)

    def defines(self) -> dict[str, int]:
        """Return the macros that do not depend on the kernel."""
        defines = {"MAX_ARGS_BYTES": self.max_args_bytes, "SCRATCH_SLOTS": max(possible_cpus()) + 1}
        if self.filter_slots is not None:
            defines |= {"KERNEL_FILTER": 1, "MAX_PROCS": self.filter_slots, "MAX_NAMES": MAX_NAMES}
            defines |= {"FILTER_BY_FILE": 1} if self.by_file else {}
        return defines


class Programs(NamedTuple):
    """Compiled programs, and what they were compiled for."""

    compiled: Compiled
    macros: dict[str, int]
    is_kept: bool
    """Whether they were there already."""
    import_seconds: float = 0.0
    """How long it took to import BCC, of the time that the compiler took."""


class ProgramSource:
    """Hands out programs for the kernel whose BTF is in a file; keeps them in ``directory``.

    Any method, and the constructor, raises SourceUnavailableError if what it needs cannot be had.
    """

    def __init__(self, btf_path: Path, directory: Path | None) -> None:
        self._what = f"the kernel's type information {btf_path}"
        remedy = "use a kernel that is built with CONFIG_DEBUG_INFO_BTF"
        with unavailable_as(f"{self._what} cannot be read", remedy):
            self._blob = btf_path.read_bytes()
        self._cache = None if directory is None else ProgramCache(directory)

    def kept(self, wanted: Wanted) -> Programs | None:
        """Return programs that are kept, if what compiled them is still what would."""
        key = self._key(wanted)
        if self._cache is None or key is None:
            return None
        with suppress(ValueError, RecursionError):
            found, macros = compiled.from_text(self._cache.load(key) or b"")
            if all(_is_unchanged(file) for file in found.compiler):
                return Programs(found, macros, is_kept=True)
        return None

    def compile(self, wanted: Wanted, *, direct: bool = True) -> Programs:
        """Compile programs.

        ``direct``: those that read by plain loads, if the kernel's BTF has the types for it.
        """
        check_room()
        macros = self._layout()
        if not direct:
            del macros["DIRECT"]
        flags = [f"-D{name}={value}" for name, value in {**macros, **wanted.defines()}.items()]
        made, import_seconds = compiling.compile_programs(wanted.source(), flags)
        return Programs(made, macros, is_kept=False, import_seconds=import_seconds)

    def _layout(self) -> dict[str, int]:
        try:
            return kernel_layout.layout_macros(btf.Btf(self._blob))
        except kernel_layout.MissingFieldError as error:
            raise SourceUnavailableError(
                f"this kernel's type information has no {error}",
                "use a kernel of the supported range, or report this one as a bug",
            ) from error
        except DecodeError as error:
            raise SourceUnavailableError(
                f"{self._what} is not readable as BTF ({error})", "report this kernel as a bug"
            ) from error

    def keep(self, wanted: Wanted, programs: Programs) -> None:
        """Keep programs that the kernel has taken."""
        key = self._key(wanted)
        if self._cache is not None and key is not None:
            self._cache.store(key, compiled.as_text(programs.compiled, programs.macros))

    def _key(self, wanted: Wanted) -> bytes | None:
        """Return all that the programs depend on; None if it cannot be known."""
        try:
            parts = {
                "notes": _digest(_KERNEL_NOTES.read_bytes()),
                "kernel": os.uname()[2:],  # release, version, machine
                "btf": _digest(self._blob),
                "source": _digest(wanted.source()),
                "headers": [(name, _digest(text)) for name, text in compiling.header_texts()],
                "defines": wanted.defines(),
                "makers": [_digest(Path(maker).read_bytes()) for maker in _MAKERS],
                "bcc": _bcc(),
            }
        except OSError:
            return None
        return json.dumps(parts, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _bcc() -> str | None:
    """Return where BCC's Python module would be imported from, without doing so."""
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("bcc")
        return None if spec is None else spec.origin
    return None


def _is_unchanged(file: compiled.FileIdentity) -> bool:
    with suppress(OSError, ValueError, TypeError):
        about = Path(file.path).stat()
        return (about.st_ino, about.st_size, about.st_mtime_ns) == file[1:]
    return False
