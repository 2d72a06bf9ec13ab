"""Builds a Vagrant box for libvirt from Debian's packages; prints its path.

Everything that scripts/install and scripts/test want is in it, so it works without a network.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from vmtest import mmdebstrap, root_filesystem
from vmtest.cache import built, fresh_log, is_writable, remove
from vmtest.commands import end_in_order, run
from vmtest.failure import UNABLE, FailedError, unexpected
from vmtest.supported import USERLANDS
from vmtest.tools import install_tools

PACKAGES = (
    "linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "udev", "dbus", "openssh-server",
    "sudo", "rsync", "ca-certificates", "python3-venv", "python3-pip",
    *root_filesystem.PACKAGES,
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
    argparse.ArgumentParser(prog="scripts/vm/box", description=__doc__).parse_args()
    end_in_order()
    if not is_writable():
        return UNABLE
    install_tools("box")
    try:
        with unexpected():
            print(path())  # noqa: T201 - for scripts
    except FailedError as error:
        sys.stderr.write(error.report("the Vagrant box", "scripts/vm/box") + "\n")
        return 1
    return 0


def path() -> Path:
    """Return the box, built when it is not in the cache."""
    inputs = [USERLANDS[0], _PREPARE.read_text(), _wanted()]
    return built("box", inputs, _build) / "proctree.box"


def _build(directory: Path) -> None:
    suite, log = USERLANDS[0], fresh_log("box")
    root, wheels = directory / "root", directory / "wheels"
    download = root_filesystem.pip_command("download", suite.python)
    run("wheels", log, [*download, "-d", wheels, *_wanted()])
    options = [
        f"--customize-hook=copy-in {shlex.quote(str(wheels))} /opt",
        f"--customize-hook=copy-in {shlex.quote(str(_PREPARE))} /tmp",
        '--customize-hook=chroot "$1" sh /tmp/prepare-box',
    ]
    mmdebstrap.make_root(root, suite.suite, PACKAGES, options, step="system", log=log)
    place = root_filesystem.place_for_owner(directory)
    _copy_kernel(root, place, directory, log)
    _write_disk(root, place, directory / "box.img", log)
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": _SIZE_GB}
    (directory / "metadata.json").write_text(json.dumps(metadata))
    (directory / "Vagrantfile").write_text(_VAGRANTFILE)
    members = ["metadata.json", "Vagrantfile", "vmlinuz", "initrd.img", "box.img"]
    run("box", log, ["tar", "-C", directory, "-cf", directory / "proctree.box", *members])
    for other in (root, wheels, place):
        remove(other)
    for name in members:
        (directory / name).unlink()


def _copy_kernel(root: Path, place: Path, directory: Path, log: Path) -> None:
    """Copy the kernel and its initial RAM disk out of a root file system."""
    install = [*root_filesystem.as_owner(), "install", "-m", "644"]
    for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
        (found,) = (root / "boot").glob(pattern)
        run("box", log, [*install, found, place / name])
        (place / name).rename(directory / name)


def _write_disk(root: Path, place: Path, disk: Path, log: Path) -> None:
    """Write a root file system to a compressed disk."""
    make = [*root_filesystem.as_owner(), "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0"]
    run("image", log, [*make, "-d", root, place / "raw", f"{_SIZE_GB}G"])
    convert = ["qemu-img", "convert", "-c", "-O", "qcow2"]
    run("image", log, [*convert, place / "raw", disk])


def _wanted() -> list[str]:
    """Return the Python packages that the project's scripts install."""
    needs = root_filesystem.requirements(checkers=True)
    return [*needs, "hatchling", "editables", "pip", "setuptools"]
