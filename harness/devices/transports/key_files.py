"""Files of keys: private ones in every format that ssh reads, public ones, and certificates; with words for what can't be used."""

from __future__ import annotations

import base64
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from harness import paths
from harness.devices.transports.ssh_wire import Reader, kind

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 1 << 20
# What Windows' Notepad puts at a file's beginning.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PUTTY = b"PuTTY-User-Key-File"
OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
MAGIC = b"openssh-key-v1\0"
HARDWARE = "sk-"


@dataclass(frozen=True)
class KeyFile:
    """What is known of a key by its files.

    Attributes:
        path: as it was named.
        blob: the public key; None if it isn't known.
        private: what signs; None if it can't be used.
        fault: why there is no private key here; the next step is in it.
    """

    path: Path
    blob: bytes | None
    private: paramiko.PKey | None
    fault: str


def load(path: Path, passphrase: str | None = None) -> KeyFile:
    """Read the files of a key: the one that is named, and the public one beside it.

    Args:
        path: a private key, or a public key whose private part an agent holds.
        passphrase: what opens it; None if nobody knows.
    """
    beside = public(path.with_name(f"{path.name}.pub"))
    try:
        data = _bytes(path)
    except OSError as exc:
        fault = "there is no such file" if isinstance(exc, FileNotFoundError) else f"it can't be read ({exc.strerror or exc})"
        return KeyFile(path, beside, None, fault)
    if (blob := _public(data)) is not None:
        beside_it = path.with_suffix("")
        other = f": name the private key, {beside_it}" if path.suffix == ".pub" and paths.is_file(beside_it) else ""
        return KeyFile(path, blob, None, f"it is a public key, and no SSH agent holds its private part{other}")
    blob = _in_private(data) or beside
    try:
        private = _private(data, passphrase)
    except TypeError:
        return KeyFile(path, blob, None, f"it has a passphrase: 'ssh-add {path}' loads it into an SSH agent")
    except Exception as exc:  # noqa: BLE001 - cryptography and paramiko raise whatever their parsers do
        return KeyFile(path, blob, None, _why(data, blob, path, passphrase, exc))
    return KeyFile(path, private.asbytes(), private, "")


def public(path: Path) -> bytes | None:
    """The public key or certificate in a file; None if there is none."""
    try:
        return _public(_bytes(path))
    except OSError:
        return None


def _bytes(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        # A pipe would be waited for.
        message = "it is not a regular file"
        raise OSError(message)
    with path.open("rb") as file:
        return file.read(LARGEST).removeprefix(BYTE_ORDER_MARK)


def _public(data: bytes) -> bytes | None:
    """The first line that is a public key."""
    for line in data.splitlines():
        fields = line.split()
        if len(fields) > 1 and not fields[0].startswith(b"#"):
            try:
                blob = base64.b64decode(fields[1], validate=True)
                return blob if kind(blob).encode() == fields[0] else None
            except ValueError:
                return None
    return None


def _in_private(data: bytes) -> bytes | None:
    """The public key that a private one of OpenSSH's own format begins with, even if it has a passphrase."""
    try:
        if not data.lstrip().startswith(OPENSSH):
            return None
        body = b"".join(line.strip() for line in data.strip().splitlines()[1:-1])
        reader = Reader(base64.b64decode(body))
        if reader.take(len(MAGIC)) != MAGIC:
            return None
        # Cipher, KDF and its options.
        for _ in range(3):
            reader.string()
        reader.number()
        blob = reader.string()
        return blob if kind(blob) else None
    except ValueError:
        return None


def _private(data: bytes, passphrase: str | None) -> paramiko.PKey:
    """Read a private key of any format; paramiko reads some of them, and not each kind in each."""
    text = b"\n".join(line.rstrip() for line in data.strip().splitlines()) + b"\n"
    load = serialization.load_ssh_private_key if text.startswith(OPENSSH) else serialization.load_pem_private_key
    try:
        loaded = load(text, None)
    except TypeError:
        if passphrase is None:
            raise
        loaded = load(text, os.fsencode(passphrase))
    if isinstance(loaded, rsa.RSAPrivateKey):
        return paramiko.RSAKey(key=loaded)
    if isinstance(loaded, ec.EllipticCurvePrivateKey):
        return paramiko.ECDSAKey(vals=(loaded, loaded.public_key()))
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        plain = loaded.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        return paramiko.Ed25519Key.from_private_key(io.StringIO(plain.decode()))
    message = f"this type of key is not supported ({type(loaded).__name__.removesuffix('PrivateKey')})"
    raise ValueError(message)


def _why(data: bytes, blob: bytes | None, path: Path, passphrase: str | None, exc: Exception) -> str:  # noqa: PLR0911 - one for each kind
    """Why a file is no private key that can be used."""
    if not data.strip():
        return "it is empty"
    if data.lstrip().startswith(PUTTY):
        return f"it is a PuTTY key: 'puttygen {path} -O private-openssh -o NEW' converts it"
    if blob is not None and kind(blob).startswith(HARDWARE):
        return f"it is on a hardware token: 'ssh-add {path}' lets the SSH agent use it"
    if blob is not None and kind(blob) == "ssh-dss":
        return "DSA keys are no longer supported: make a new key with 'ssh-keygen -t ed25519'"
    if passphrase is not None:
        return f"the password does not decrypt it ({exc})"
    if b"PRIVATE KEY-----" in data:
        return f"it is damaged or in an unsupported format ({exc}): if 'ssh-keygen -y -f {path}' can read it, 'ssh-keygen -p -f {path}' rewrites it in a supported format"
    return "it is not a private key"
