"""Which keys and certificates are offered to a server, in ssh's order: those of the agent that are named, its others, then files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.devices.transports import certificates, key_files
from harness.devices.transports.certificates import SUFFIX, Certificate, fingerprint
from harness.devices.transports.ssh_agent import AgentError
from harness.devices.transports.ssh_wire import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from harness.devices.transports.key_files import KeyFile
    from harness.devices.transports.ssh_agent import SshAgent


CERTIFICATE = "-cert.pub"


class UnusableError(Exception):
    """A key can't sign; says why and what to do."""


@dataclass(frozen=True)
class Identity:
    """Something to log in with.

    Attributes:
        label: how a message calls it.
        blob: the public key or certificate; None if not even that is known.
        sign: signs data by an algorithm; raises UnusableError or AgentError.
        fault: why it can't sign; empty if nothing is known of that.
        certificate: what it says, if it is one that can be read.
    """

    label: str
    blob: bytes | None
    sign: Callable[[bytes, str], bytes]
    certificate: Certificate | None = None
    fault: str = ""


def find(
    files: Sequence[Path],
    certificate_files: Iterable[Path] = (),
    agent: SshAgent | None = None,
    *,
    only: bool,
    seconds: float,
    passphrase: str | None = None,
) -> list[Identity]:
    """Collect what may be offered.

    Args:
        files: private keys, or public ones whose private part the agent holds.
        certificate_files: certificates; without any, a key's own is ``KEY-cert.pub``.
        agent: the SSH agent; it is left alone where files are all that counts and none needs it.
        only: whether the agent's other keys may not be offered.
        seconds: how long the agent may take to sign.
        passphrase: what may open the files.
    """
    # A certificate may be named in the place of its key.
    certificate_files = [*certificate_files, *(file for file in files if _base(file) is not None)]
    loaded = [key_files.load(_base(file) or file, passphrase) for file in files]
    named = [(file, blob) for file in certificate_files if (blob := key_files.public(file)) is not None]
    own = [] if named else [pair for key in loaded if (pair := _own_certificate(key)) is not None]
    known = {key.blob for key in loaded if key.private is not None}
    needed = not only or any(key.private is None for key in loaded) or any(_key(blob) not in known for _, blob in named)
    held = _held(agent) if agent is not None and needed else {}
    signer = _Signer(loaded, held, agent, seconds)
    found = [signer.certificate(file, blob) for file, blob in named]
    wanted = [(key.path, key.blob) for key in loaded if key.blob] + own
    for blob, label in held.items():
        if any(blob == mine for _, mine in wanted):
            found.append(signer.held(blob, label))
    if not only:
        found += [signer.held(blob, label) for blob, label in held.items() if all(blob != mine for _, mine in wanted)]
    for key in loaded:
        if key.blob is None or key.blob not in held:
            found.append(signer.file(key))
        found += [signer.certificate(file, blob) for file, blob in own if blob not in held and _key(blob) == key.blob]
    return found


class _Signer:
    """Finds who can sign for a key."""

    def __init__(self, files: list[KeyFile], held: dict[bytes, str], agent: SshAgent | None, seconds: float) -> None:
        self._files, self._held, self._agent, self._seconds = files, held, agent, seconds

    def held(self, blob: bytes, label: str) -> Identity:
        return Identity(label, blob, self._by_agent(blob), _read(blob))

    def file(self, key: KeyFile) -> Identity:
        return Identity(str(key.path), key.blob, self._by_file(key), fault=key.fault)

    def certificate(self, file: Path, blob: bytes) -> Identity:
        key = _key(blob)
        fault = "its private key is neither in one of the named files nor in an SSH agent"
        sign = self._nobody(fault)
        for mine in self._files:
            if mine.blob == key:
                sign, fault = self._by_file(mine), mine.fault
        # An agent's copy needs no passphrase.
        if key in self._held or blob in self._held:
            sign, fault = self._by_agent(key if key in self._held else blob), ""
        return Identity(str(file), blob, sign, _read(blob), fault)

    def _by_agent(self, blob: bytes) -> Callable[[bytes, str], bytes]:
        def sign(data: bytes, algorithm: str) -> bytes:
            assert self._agent is not None  # noqa: S101 - it named the key
            return self._agent.sign(blob, data, algorithm, self._seconds)

        return sign

    def _by_file(self, key: KeyFile) -> Callable[[bytes, str], bytes]:
        private = key.private
        if private is None:
            return self._nobody(key.fault)

        def sign(data: bytes, algorithm: str) -> bytes:
            try:
                return bytes(private.sign_ssh_data(data, algorithm).asbytes())
            except Exception as exc:
                reason = f"it can't sign: is the file damaged? ({exc})"
                raise UnusableError(reason) from exc

        return sign

    @staticmethod
    def _nobody(reason: str) -> Callable[[bytes, str], bytes]:
        def sign(_data: bytes, _algorithm: str) -> bytes:
            raise UnusableError(reason)

        return sign


def _held(agent: SshAgent) -> dict[bytes, str]:
    """The agent's keys and what a message calls them; none if it can't be asked, which it remembers."""
    try:
        keys = agent.keys()
    except AgentError:
        return {}
    usable = [key for key in keys if _kind(key.blob) not in {"", "ssh-dss"}]
    return {
        key.blob: f"the SSH agent's key '{key.comment or 'without a name'}' ({fingerprint(_key(key.blob))})" for key in usable
    }


def _base(file: Path) -> Path | None:
    """The key that a certificate file is named after; None for other files."""
    return file.with_name(file.name.removesuffix(CERTIFICATE)) if file.name.endswith(CERTIFICATE) else None


def _own_certificate(key: KeyFile) -> tuple[Path, bytes] | None:
    file = key.path.with_name(f"{key.path.name.removesuffix('.pub')}{CERTIFICATE}")
    blob = key_files.public(file)
    return (file, blob) if blob is not None and _is_certificate(blob) else None


def _is_certificate(blob: bytes) -> bool:
    return _kind(blob).endswith(SUFFIX)


def _key(blob: bytes) -> bytes:
    """The public key of a certificate; a key is its own."""
    certificate = _read(blob)
    return blob if certificate is None else certificate.key


def _read(blob: bytes) -> Certificate | None:
    try:
        return certificates.read(blob) if _is_certificate(blob) else None
    except ValueError:
        return None


def _kind(blob: bytes) -> str:
    try:
        return kind(blob)
    except ValueError:
        return ""
