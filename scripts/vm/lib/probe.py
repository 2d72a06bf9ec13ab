"""Prints the libvirt driver for this machine: kvm where it works, else qemu."""

from __future__ import annotations

import sys

import qemu
from cloud_kernel import bootable
from failure import FailedError
from store import fresh_log
from supported import KERNELS


def main() -> int:
    """Return the exit status."""
    try:
        works = qemu.accelerator(bootable(KERNELS[0]), fresh_log("probe")) == "kvm"
    except FailedError as error:
        sys.stderr.write(error.told("the probe for KVM", "scripts/vm/vagrant-smoke") + "\n")
        return 1
    print("kvm" if works else "qemu")  # noqa: T201 - for scripts
    return 0


if __name__ == "__main__":
    sys.exit(main())
