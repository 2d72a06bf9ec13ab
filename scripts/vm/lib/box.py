"""Builds a Vagrant box for libvirt from Debian's packages; prints its path.

Everything that scripts/install and scripts/test want is in it, so it works without a network.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

import bootstrap
import userland
from failure import UNABLE, FailedError, end_in_order, run, unexpected
from store import built, fresh_log, is_ours, remove
from supported import USERLANDS
from tools import install

PACKAGES = (
    "linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "udev", "dbus", "openssh-server",
    "sudo", "rsync", "ca-certificates", "python3-venv", "python3-pip",
    *userland.PACKAGES,
)  # fmt: skip
_PREPARE = Path(__file__).parents[1] / "guest" / "prepare-box"
_SIZE_GB = 4
_VAGRANTFILE = """\
# This box has no boot loader: the kernel beside it is started.
Vagrant.configure("2") do |config|
  config.vm.provider "libvirt" do |libvirt|
    libvirt.kernel = File.join(File.dirname(__FILE__), "vmlinuz")
    libvirt.initrd = File.join(File.dirname(__FILE__), "initrd.img")
    libvirt.cmd_line = "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off"
  end
end
"""


def main() -> int:
    """Return the exit status."""
    end_in_order()
    if not is_ours():
        return UNABLE
    install("box")
    try:
        with unexpected():
            print(path())  # noqa: T201 - for scripts
    except FailedError as error:
        sys.stderr.write(error.told("the Vagrant box", "scripts/vm/box") + "\n")
        return 1
    return 0


def path() -> Path:
    """Return the box, built when it is not in the cache."""
    suite = USERLANDS[0]

    def build(directory: Path) -> None:
        log = fresh_log("box")
        root, wheels = directory / "root", directory / "wheels"
        run(
            "wheels",
            log,
            [
                *userland.pip("download", suite.python), "-d", wheels, *_wanted(),
            ],
        )  # fmt: skip
        options = [
            f"--customize-hook=copy-in {shlex.quote(str(wheels))} /opt",
            f"--customize-hook=copy-in {shlex.quote(str(_PREPARE))} /tmp",
            '--customize-hook=chroot "$1" sh /tmp/prepare-box',
        ]
        bootstrap.system(root, suite.suite, PACKAGES, options, step="system", log=log)
        place = userland.place_for_helper(directory)
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
            (found,) = (root / "boot").glob(pattern)
            run("box", log, [*userland.helper(), "install", "-m", "644", found, place / name])
            (place / name).rename(directory / name)
        image = [*userland.helper(), "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0"]
        run("image", log, [*image, "-d", root, place / "raw", f"{_SIZE_GB}G"])
        convert = ["qemu-img", "convert", "-c", "-O", "qcow2"]
        run("image", log, [*convert, place / "raw", directory / "box.img"])
        metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": _SIZE_GB}
        (directory / "metadata.json").write_text(json.dumps(metadata))
        (directory / "Vagrantfile").write_text(_VAGRANTFILE)
        members = ["metadata.json", "Vagrantfile", "vmlinuz", "initrd.img", "box.img"]
        run("box", log, ["tar", "-C", directory, "-cf", directory / "proctree.box", *members])
        for other in (root, wheels, place):
            remove(other)
        for name in members:
            (directory / name).unlink()

    inputs = [suite, _PREPARE.read_text(), _wanted()]
    return built("box", inputs, build) / "proctree.box"


def _wanted() -> list[str]:
    """Return the Python packages that the project's scripts install."""
    return [*userland.requirements(checkers=True), "hatchling", "editables", "pip", "setuptools"]


if __name__ == "__main__":
    argparse.ArgumentParser(prog="scripts/vm/box", description=__doc__).parse_args()
    sys.exit(main())
