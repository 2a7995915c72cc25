"""OpenSSH's certificates (PROTOCOL.certkeys): what one says, and whether it holds for a host or a user."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass

import paramiko

from harness.devices.transports.ssh_wire import Reader, kind, string

SUFFIX = "-cert-v01@openssh.com"
USER, HOST = 1, 2
# How many fields the key itself has.
KEY_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2, "ecdsa-sha2-nistp256": 2, "ecdsa-sha2-nistp384": 2, "ecdsa-sha2-nistp521": 2}
FOREVER = 2**64 - 1


@dataclass(frozen=True)
class Certificate:
    """What a certificate says.

    Attributes:
        key: the key that it is for, as a public key.
        kind: what it is for: ``USER`` or ``HOST``.
        key_id: what the CA called it.
        principals: names of hosts or users; none is all of them.
        after: from when it is valid, in seconds since 1970.
        before: until when.
        critical: what who takes it must know.
        authority: the CA's public key.
    """

    key: bytes
    kind: int
    key_id: str
    principals: tuple[str, ...]
    after: int
    before: int
    critical: tuple[str, ...]
    authority: bytes

    def host_fault(self, name: str) -> str | None:
        """Say why it does not hold for a host now, by ssh's rules; None if it does."""
        if self.kind != HOST:
            return "is a user certificate, not a host certificate"
        if (fault := self._out_of_time()) is not None:
            return fault
        if self.principals and name not in self.principals:
            return f"is for {', '.join(self.principals)}, not for {name}"
        if self.critical:
            return f"has unknown critical options ({', '.join(self.critical)})"
        return None

    def user_fault(self, user: str) -> str | None:
        """Say why a server may refuse it for a user; None if nothing of that can be seen in it."""
        if self.kind != USER:
            return "is a host certificate, not a user certificate"
        if (fault := self._out_of_time()) is not None:
            return fault
        if user not in self.principals:
            return f"is for {', '.join(self.principals) or 'nobody'}, not for {user}"
        return None

    def _out_of_time(self) -> str | None:
        now = time.time()
        if now < self.after:
            return f"is not valid before {_day(self.after)}: is this machine's clock right? It says {_day(int(now))}"
        if now >= self.before:
            return f"expired at {_day(self.before)}"
        return None


def read(blob: bytes) -> Certificate:
    """Read a certificate and check its CA's signature.

    Raises:
        ValueError: if it is none, is of a kind that is not supported, or the signature is wrong (or RSA with SHA-1).
    """
    plain = kind(blob).removesuffix(SUFFIX)
    if plain not in KEY_FIELDS or not kind(blob).endswith(SUFFIX):
        message = f"it is not a certificate of a supported type ({kind(blob)[:64]})"
        raise ValueError(message)
    reader = Reader(blob)
    reader.string()
    # A nonce comes before the key.
    reader.string()
    key = string(plain.encode()) + b"".join(string(reader.string()) for _ in range(KEY_FIELDS[plain]))
    reader.long_number()
    what, key_id = reader.number(), reader.text()
    names = Reader(reader.string())
    principals = []
    while names.rest:
        principals.append(names.text())
    after, before = reader.long_number(), reader.long_number()
    options = Reader(reader.string())
    critical = []
    while options.rest:
        critical.append(options.text())
        options.string()
    # Extensions, and a field for later use.
    reader.string()
    reader.string()
    authority = reader.string()
    signed = blob[: len(blob) - reader.rest]
    signature = reader.string()
    reader.end()
    if not _signed_by(authority, signed, signature):
        message = "its signature is not by its CA, or is of an unsupported type"
        raise ValueError(message)
    return Certificate(key, what, key_id, tuple(principals), after, before, tuple(critical), authority)


def fingerprint(blob: bytes) -> str:
    """A public key's fingerprint, as ssh-keygen shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _signed_by(authority: bytes, data: bytes, signature: bytes) -> bool:
    try:
        key = paramiko.PKey.from_type_string(kind(authority), authority)
        return key.asbytes() == authority and bool(key.verify_ssh_sig(data, paramiko.Message(signature)))
    except Exception:  # noqa: BLE001 - paramiko and cryptography raise whatever their parsers do
        return False


def _day(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "the end of time"
