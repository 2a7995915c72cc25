"""Files of known host keys, read as OpenSSH reads them: hashed names, patterns, several keys for a host, CAs, and revoked keys."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import paramiko

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HASHED = "|1|"
FIELDS = 3
SPACE = re.compile(r"[ \t]+")


@dataclass(frozen=True)
class KnownKeys:
    """What the files say of one host.

    Attributes:
        trusted: its keys; one of them must be shown.
        revoked: keys that nobody may show, and CAs that no longer count.
        authorities: CAs whose host certificates count (``@cert-authority``).
        places: where its keys were found: ``FILE:LINE``, or the place in devices.toml.
        unread: files that can't be read, each with the reason.
    """

    trusted: tuple[paramiko.PKey, ...]
    revoked: tuple[paramiko.PKey, ...] = ()
    authorities: tuple[paramiko.PKey, ...] = ()
    places: dict[paramiko.PKey, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def told(self) -> str:
        """The trusted keys for a message, each with its place."""
        return ", ".join(
            f"{key.get_name()} {key.fingerprint}" + (f" ({self.places[key]})" if key in self.places else "")
            for key in self.trusted
        )


def find(files: Iterable[Path], name: str) -> KnownKeys:
    """Collect a host's keys.

    Args:
        files: known_hosts files; what can't be read there is left out, so it is not trusted.
        name: as known_hosts writes it: ``host``, or ``[host]:port`` off port 22.
    """
    keys: dict[str, list[paramiko.PKey]] = {"": [], "@revoked": [], "@cert-authority": []}
    places: dict[paramiko.PKey, str] = {}
    unread: list[str] = []
    for file in files:
        try:
            text = file.read_bytes().decode(errors="replace")
        except OSError as exc:
            unread.append(f"{file} can't be read: {exc.strerror}")
            continue
        # Only what separates lines and words for ssh: other characters do not end a comment.
        for number, line in enumerate(text.split("\n"), 1):
            fields = SPACE.split(line.strip(" \t\r"))
            marker = fields.pop(0) if fields[0].startswith("@") else ""
            if len(fields) < FIELDS or fields[0].startswith("#") or marker not in keys or not _meant(fields[0], name.lower()):
                continue
            if (key := public(fields[1], fields[2])) is not None:
                keys[marker].append(key)
                places.setdefault(key, f"{file}:{number}")
    revoked = tuple(keys["@revoked"])
    trusted, authorities = (
        tuple(key for key in dict.fromkeys(keys[marker]) if key not in revoked) for marker in ("", "@cert-authority")
    )
    return KnownKeys(trusted, revoked, authorities, places, tuple(unread))


def public(kind: str, encoded: str) -> paramiko.PKey | None:
    """Read a public key; None if it is none, or of a kind that we can't check."""
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))
    except Exception:  # noqa: BLE001 - paramiko raises whatever its parsers do
        return None


def _meant(patterns: str, name: str) -> bool:
    """Whether a line is of this host."""
    if patterns.startswith(HASHED):
        return _hash(name, patterns) == patterns
    found = False
    for pattern in patterns.lower().split(","):
        wanted = re.escape(pattern.removeprefix("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(wanted, name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _hash(name: str, salt: str) -> str:
    try:
        return str(paramiko.HostKeys.hash_host(name, salt))
    except Exception:  # noqa: BLE001 - a line that is none, in a file of the user's
        return ""
