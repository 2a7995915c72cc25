"""What the image of a board is made of, and the name that follows from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILES = Path(__file__).resolve().parent / "files"
KEY_LENGTH = 12


@dataclass(frozen=True)
class ImageRecipe:
    """Everything that shapes the image, together with the scripts in ``files/``.

    Attributes:
        suite: the Debian release; bookworm has Python 3.11.
        packages: what debootstrap installs beside Debian's smallest system.
        kernel: the Debian package that depends on the newest kernel.
        busybox: the Debian package with the first process's tools.
        modules: the kernel's modules that a disk and a network need, in the order in which they can be loaded.
        disk_mib: size of the disk in MiB; its file is sparse.
        ext4: options for mke2fs. No journal and nothing left to initialise later: kernel threads would spoil the counts.
    """

    suite: str = "bookworm"
    packages: tuple[str, ...] = ("openssh-server", "python3", "procps")
    kernel: str = "linux-image-cloud-arm64"
    busybox: str = "busybox-static"
    modules: tuple[str, ...] = (
        "virtio",
        "virtio_ring",
        "virtio_pci_legacy_dev",
        "virtio_pci_modern_dev",
        "virtio_pci",
        "virtio_blk",
        "failover",
        "net_failover",
        "virtio_net",
    )
    disk_mib: int = 3000
    ext4: tuple[str, ...] = ("-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0")

    def key(self, files: Path = FILES) -> str:
        """Name the image: any change of a parameter or a script gives another name."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        for path in sorted(path for path in files.iterdir() if path.is_file()):
            content = path.read_bytes()
            digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:KEY_LENGTH]
