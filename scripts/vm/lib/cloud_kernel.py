"""Debian's cloud kernels, unpacked from their packages, each with its initial RAM disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import initrd
from debian import Packages
from failure import FailedError
from store import built, fresh_log

if TYPE_CHECKING:
    from supported import Kernel

_META = "linux-image-cloud-amd64"
# Where the image is split, it is in linux-binary-VERSION.
_PARTS = r"linux-(image|binary|modules|base)-[0-9].*"


class Bootable(NamedTuple):
    """What QEMU needs."""

    vmlinuz: Path
    initrd: Path


def bootable(kernel: Kernel) -> Bootable:
    """Return a kernel, downloaded when it is not in the cache."""

    def build(directory: Path) -> None:
        log = fresh_log(f"kernel-{kernel.series}")
        root = directory / "unpacked"
        packages = Packages(kernel.suite, directory / "apt", log)
        packages.unpack([*packages.needed_by(_META, _PARTS), "busybox-static"], root)
        images = [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]
        if len(images) != 1:
            raise FailedError("kernel", f"expected one vmlinuz, found {images}", log)
        shutil.copy(images[0], directory / "vmlinuz")
        (busybox,) = [*root.glob("bin/busybox"), *root.glob("usr/bin/busybox")]
        initrd.write(directory / "initrd", busybox, root)
        shutil.rmtree(root)
        shutil.rmtree(directory / "apt")

    inputs = [kernel.suite, initrd.SCRIPT.read_text(), Path(initrd.__file__).read_text()]
    directory = built(f"kernel-{kernel.series}", inputs, build)
    return Bootable(directory / "vmlinuz", directory / "initrd")
