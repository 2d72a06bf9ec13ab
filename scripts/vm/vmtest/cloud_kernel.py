"""Debian's cloud kernels, unpacked from their packages, each with its initial RAM disk."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, NamedTuple

from vmtest import initrd
from vmtest.cache import DOWNLOADS, built, fresh_log
from vmtest.debian_packages import Packages
from vmtest.failure import FailedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vmtest.supported import Kernel

_PREFIX, _FLAVOUR = "linux-image-", "-cloud-amd64"
# Where the image is split, it is in linux-binary-VERSION.
_PARTS = r"linux-(image|binary|modules|base)-[0-9].*"


class Bootable(NamedTuple):
    """What QEMU needs."""

    vmlinuz: Path
    initrd: Path


def newest_image(series: str, names: Iterable[str]) -> str:
    """Return the newest image of a series; where there is none, the newest of all.

    A suite moves on to another series, and what is booted then is not what is listed.
    """
    listed = list(names)
    wanted = [name for name in listed if name.startswith(f"{_PREFIX}{series}.")]
    return max(wanted or listed, key=_numbers)


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name.removesuffix(_FLAVOUR))]


def bootable(kernel: Kernel) -> Bootable:
    """Return a kernel, downloaded when it is not in the cache."""

    def build(directory: Path) -> None:
        log = fresh_log(f"kernel-{kernel.series}")
        root = directory / "unpacked"
        packages = Packages(kernel.suite, directory / "apt", log)
        offered = packages.named(rf"{_PREFIX}\d.*{_FLAVOUR}")
        image = newest_image(kernel.series, offered)
        names = [*packages.needed_by(image, _PARTS), "busybox-static"]
        packages.unpack(names, root, DOWNLOADS / f"kernel-{kernel.series}")
        images = [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]
        if len(images) != 1:
            raise FailedError("kernel", f"expected one vmlinuz, found {images}", log)
        shutil.copy(images[0], directory / "vmlinuz")
        (busybox,) = [*root.glob("bin/busybox"), *root.glob("usr/bin/busybox")]
        initrd.write(directory / "initrd", busybox, root)
        shutil.rmtree(root)
        shutil.rmtree(directory / "apt")

    inputs = [kernel.suite, initrd.SCRIPT.read_text()]
    directory = built(f"kernel-{kernel.series}", inputs, build)
    return Bootable(directory / "vmlinuz", directory / "initrd")
