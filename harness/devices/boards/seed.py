"""What makes a board one of its own: its keys and its name, as a second part of the first file system."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.devices.boards import cpio

if TYPE_CHECKING:
    from pathlib import Path

    from harness.devices.boards.image import Image

IDENTITY = "identity"
INITRAMFS = "initramfs"


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key.

    Attributes:
        private: in OpenSSH's format.
        public: ``ssh-ed25519 AAAA…``.
    """

    private: bytes
    public: str


def key_pair() -> KeyPair:
    """Make a new key."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return KeyPair(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), public)


def plant(name: str, image: Image, place: Path) -> str:
    """Write a board's first file system and the key that opens the board into its folder.

    Returns:
        The board's host key, as devices.toml takes it.
    """
    host, user = key_pair(), key_pair()
    seed = cpio.archive(
        {
            "seed/hostname": (0o644, f"{name}\n".encode()),
            "seed/authorized_keys": (0o600, f"{user.public} quant-harness\n".encode()),
            "seed/ssh_host_ed25519_key": (0o600, host.private),
            "seed/ssh_host_ed25519_key.pub": (0o644, f"{host.public}\n".encode()),
        }
    )
    _write_private(place / IDENTITY, user.private)
    _write_private(place / INITRAMFS, image.initramfs.read_bytes() + seed)
    return host.public


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
