"""Tells the libvirt driver for this machine: kvm where it works, else qemu."""

from __future__ import annotations

import qemu
from cloud_kernel import bootable
from store import fresh_log
from supported import KERNELS


def libvirt_driver() -> str:
    """Return the driver's name."""
    return "kvm" if qemu.accelerator(bootable(KERNELS[0]), fresh_log("probe")) == "kvm" else "qemu"
