"""An initial RAM disk: a static busybox, the modules that the disk needs, and one script."""

from __future__ import annotations

import lzma
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from vmtest.failure import FailedError

if TYPE_CHECKING:
    from collections.abc import Iterable

WANTED = ("virtio_pci", "virtio_blk", "ext4", "overlay")
SCRIPT = Path(__file__).parents[1] / "guest" / "initrd"

_DIRECTORY = 0o040755
_PROGRAM = 0o100755
_DEVICE = 0o020600
_CONSOLE = (5, 1)


def write(initrd: Path, busybox: Path, modules: Path) -> None:
    """Write an uncompressed cpio archive ("newc", see the kernel's early-userspace documents)."""
    chosen = _with_dependencies(WANTED, modules)
    parts = [_entry(name, _DIRECTORY) for name in ("bin", "dev", "proc", "sys", "root", "modules")]
    parts.append(_entry("dev/console", _DEVICE, device=_CONSOLE))
    parts.append(_entry("bin/busybox", _PROGRAM, busybox.read_bytes()))
    parts.append(_entry("init", _PROGRAM, SCRIPT.read_bytes()))
    for number, content in enumerate(chosen.values()):
        parts.append(_entry(f"modules/{number:02}.ko", _PROGRAM, content))
    parts.append(_entry("TRAILER!!!", 0))
    initrd.write_bytes(b"".join(parts))


def _entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _with_dependencies(wanted: Iterable[str], modules: Path) -> dict[str, bytes]:
    """Return modules by name, each after those that it needs; what is built in has no file."""
    files = {_name(path): path for path in modules.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in files:
            return
        content = _content(files[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in depends[1].decode().split(",") if depends else ():
            add(other.replace("-", "_"))
        found[name] = content

    for name in wanted:
        add(name)
    return found


def _name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    if path.suffix == ".ko":
        return data
    raise FailedError("initrd", f"{path.name} is compressed in an unknown way")
