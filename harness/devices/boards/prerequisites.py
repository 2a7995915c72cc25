"""What building an image and starting a board need of this machine, checked before anything is done."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EMULATOR = "qemu-system-aarch64"
USER_EMULATOR = "qemu-aarch64-static"
# Each tool with the Debian package that has it.
TO_START = {EMULATOR: "qemu-system-arm"}
TO_BUILD = {
    "debootstrap": "debootstrap",
    "gpgv": "gpgv",
    "mke2fs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "chroot": "coreutils",
    **TO_START,
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KEYRING_PACKAGE = "debian-archive-keyring"
SPACE_BYTES = 2 << 30
# Where Debian keeps what only root uses; an ordinary user's PATH lacks it.
SYSTEM = "/usr/sbin:/sbin"


def tool(name: str) -> str | None:
    """Find a program, also one of root's."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM}")


def is_native() -> bool:
    """Whether this machine is an aarch64 one itself, and needs no emulator to run the guest's programs while building."""
    return platform.machine() == "aarch64"


def lacking(tools: Mapping[str, str], files: Iterable[tuple[Path, str]] = ()) -> list[str]:
    """List the Debian packages of tools and files that are not here."""
    packages = {package for name, package in tools.items() if tool(name) is None}
    return sorted(packages | {package for path, package in files if not path.exists()})


def packages_to_build() -> list[str]:
    """List the Debian packages that building an image and starting a board need and this machine lacks."""
    tools = TO_BUILD if is_native() else {**TO_BUILD, USER_EMULATOR: "qemu-user-static"}
    return lacking(tools, [(KEYRING, KEYRING_PACKAGE)])


def check_build(folder: Path) -> None:
    """Check all that building needs, and tell all that is missing in one message.

    Args:
        folder: where the image will be.

    Raises:
        UsageError: with the command that installs what is missing.
    """
    if sys.platform != "linux":
        message = "an image of a board can only be built on Linux"
        raise UsageError(message)
    faults = _packages(packages_to_build())
    if not is_native() and not _has_binfmt():
        faults.append("this kernel can't run programs of other architectures (binfmt_misc): modprobe binfmt_misc")
    free = shutil.disk_usage(_existing(folder)).free
    if free < SPACE_BYTES:
        faults.append(f"{folder}: {free / 2**30:.1f} GiB free, building needs {SPACE_BYTES / 2**30:.0f}")
    if os.geteuid() != 0:
        faults.append(f"building an image needs root: sudo {shlex.join([str(Path(sys.argv[0]).absolute()), *sys.argv[1:]])}")
    if faults:
        raise UsageError("\n".join(faults))


def check_start() -> str:
    """Check what starting a board needs.

    Returns:
        The emulator's path.

    Raises:
        UsageError: with the command that installs it.
    """
    if sys.platform != "linux":
        message = "virtual boards run on Linux only"
        raise UsageError(message)
    found = tool(EMULATOR)
    if found is None:
        raise UsageError("\n".join(_packages(lacking(TO_START))))
    return found


def _packages(packages: list[str]) -> list[str]:
    """Say in one line, or none, which packages are missing."""
    if not packages:
        return []
    return [
        f"missing Debian packages: {', '.join(packages)}; as root: apt-get install --no-install-recommends {' '.join(packages)}"
    ]


def _has_binfmt() -> bool:
    """Whether the kernel has binfmt_misc; asks it to load the module."""
    filesystems = Path("/proc/filesystems")
    if "binfmt_misc" in filesystems.read_text(encoding="utf-8"):
        return True
    modprobe = tool("modprobe")
    if modprobe is not None:
        subprocess.run([modprobe, "binfmt_misc"], capture_output=True, check=False)
    return "binfmt_misc" in filesystems.read_text(encoding="utf-8")


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
