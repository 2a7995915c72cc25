"""Host keys: which ones a device may show; any other is refused."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko

from harness.devices.transports import certificates, known_hosts
from harness.devices.transports.certificates import SUFFIX, fingerprint
from harness.devices.transports.known_hosts import KnownKeys
from harness.errors import HostKeyError, HostKeyMismatchError, RegistryError, UnknownHostKeyError

if TYPE_CHECKING:
    from harness.devices.device import Device
    from harness.devices.transports.ssh_config import Route

RSA = ("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")
OFFERED: tuple[str, ...] = paramiko.Transport._preferred_keys  # type: ignore[attr-defined]  # noqa: SLF001 - nothing public tells them


@dataclass(frozen=True)
class Advice:
    """The next step.

    Attributes:
        unknown: where no key is known.
        other: where another key is shown.
    """

    unknown: str
    other: str


class Checked(paramiko.MissingHostKeyPolicy):
    """Lets a known key pass, refuses any other, and says how to trust it.

    Paramiko's own check knows one key of a kind for a host, no patterns and no aliases; so it is given none, and asks this.
    """

    def __init__(self, device: Device, known: KnownKeys, route: Route, advice: Advice, *, look: bool = False) -> None:
        self._device, self.known, self._route, self._advice, self._look = device, known, route, advice, look

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Decide on the key or certificate that was shown, as ssh does: where a certificate does not count, its key may."""
        if key in self.known.revoked:
            reason = f"the host key of {hostname} is revoked in known_hosts: {key.get_name()} {key.fingerprint}"
            raise HostKeyError(self._device.name, "connect", reason)
        fault = self._certificate_fault(hostname, key)
        if fault is None:
            if self._look:
                raise Shown(key, known=True, certified=True)
            return
        if self.known.trusted and key not in self.known.trusted:
            what = f"it shows {key.get_name()} {key.fingerprint}, expected {self.known.told()}{fault}"
            raise self.other(what)
        if self._look:
            raise Shown(key, known=bool(self.known.trusted))
        if not self.known.trusted:
            unread = "".join(f"; {file}" for file in self.known.unread)
            reason = f"unknown host key of {hostname}: {key.get_name()} {key.fingerprint}{fault}{unread}; {self._advice.unknown}"
            raise UnknownHostKeyError(self._device.name, "connect", reason)

    @property
    def unwanted(self) -> list[str]:
        """Kinds of host keys that must not be agreed on, for only one of a known kind can be checked."""
        kinds = {key.get_name() for key in self.known.trusted}
        wanted = {kind for name in kinds for kind in (RSA if name == "ssh-rsa" else (name,))}
        return [kind for kind in OFFERED if kind not in wanted] if wanted else []

    def other(self, what: str) -> HostKeyMismatchError:
        """The server shows another key than one that is known."""
        where = f"{self._route.host}:{self._route.port}"
        reason = f"the host key of {where} is not the one expected: {what}; if the device was reinstalled: {self._advice.other}"
        return HostKeyMismatchError(self._device.name, "connect", reason)

    @property
    def kinds(self) -> str:
        """The kinds of the known keys, for a message."""
        return ", ".join(sorted({key.get_name() for key in self.known.trusted}))

    def _certificate_fault(self, hostname: str, key: paramiko.PKey) -> str | None:
        """Why no certificate vouches for a key, as a part of a message; None if one does.

        Raises:
            HostKeyError: if the CA is revoked.
        """
        shown = getattr(key, "public_blob", None)
        if shown is None or not shown.key_type.endswith(SUFFIX):
            return (
                "; known_hosts names a CA for it (@cert-authority), but the server shows no certificate"
                if self.known.authorities
                else ""
            )
        try:
            certificate = certificates.read(shown.key_blob)
        except ValueError as exc:
            return f"; its certificate can't be used: {exc}"
        called = f"'{certificate.key_id}' by the CA {fingerprint(certificate.authority)}"
        if certificate.authority in {revoked.asbytes() for revoked in self.known.revoked}:
            reason = f"the certificate of {hostname}, {called}, does not count: known_hosts revokes the CA; ask the CA's administrator for a new certificate"
            raise HostKeyError(self._device.name, "connect", reason)
        if certificate.authority not in {known.asbytes() for known in self.known.authorities}:
            return f"; its certificate {called} does not count: known_hosts does not name that CA for this host (@cert-authority)"
        fault = certificate.host_fault(_called(self._route))
        return f"; its certificate {called} does not count: it {fault}" if fault else None


class Shown(Exception):  # noqa: N818 - carries a key out of paramiko, no error
    """The key that a server shows.

    Attributes:
        known: whether it was known, so it is the one expected.
        certified: whether a certificate of a known CA vouches for it.
    """

    def __init__(self, key: paramiko.PKey, *, known: bool, certified: bool = False) -> None:
        self.key, self.known, self.certified = key, known, certified


def known(device: Device, route: Route, entry: str | None = None) -> KnownKeys:
    """The keys that the server may show: the one of devices.toml, or else those of known_hosts.

    Args:
        device: whose server it is.
        route: what ssh_config says of it.
        entry: the name of the entry that has the key; None is the device's own.

    Raises:
        RegistryError: if the one of devices.toml is no key.
    """
    if device.host_key is None:
        found = known_hosts.find(route.known_hosts, route.key_name)
        if route.key_name != f"[{route.host}]:{route.port}":
            return found
        # Where nothing is said of the port, ssh takes what is said of the host.
        plain = known_hosts.find(route.known_hosts, route.host)
        return KnownKeys(
            found.trusted or plain.trusted,
            found.revoked + plain.revoked,
            found.authorities or plain.authorities,
            plain.places | found.places,
            found.unread,
        )
    kind, encoded = device.host_key.split()[:2]
    name = entry or device.name
    place = device.origin.where(name, "host_key")
    try:
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))
    except Exception as exc:
        message = f"{place}: '{name}.host_key': not a {kind} public key ({exc}); harness device trust {name} writes it"
        raise RegistryError(message) from exc
    return KnownKeys((key,), places={key: f"host_key in {place}"})


def advice(device: Device, route: Route) -> Advice:
    """What to do about a device's keys."""
    unknown = f"compare it with what 'ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub' says on the device, then run: harness device trust {device.name}"
    if route.strict in {"no", "off", "accept-new"}:
        unknown += f" (StrictHostKeyChecking {route.strict} in ssh_config has no effect in the harness)"
    return Advice(unknown, f"harness device trust {device.name} --replace")


def hop_advice(alias: str, spec: str, route: Route, known: KnownKeys, entry: str | None) -> Advice:
    """What to do about the keys of a host on the way that ssh_config names.

    Args:
        alias: its name there.
        spec: the same, as ProxyJump has it.
        route: what ssh_config says of it.
        known: its keys.
        entry: the device of devices.toml that has its key.
    """
    other = f"harness device trust {entry} --replace"
    if entry is None:
        files = sorted({known.places[key].rpartition(":")[0] for key in known.trusted if key in known.places})
        other = "remove the old key: " + ", ".join(f"ssh-keygen -R '{route.key_name}' -f {file}" for file in files)
    return Advice(f"compare it with the key on that host, then run: harness device add {alias} {spec}", other)


def _called(route: Route) -> str:
    """What a host's certificate must call it: the name alone, or HostKeyAlias."""
    return route.host.lower() if route.key_name in {route.host, f"[{route.host}]:{route.port}"} else route.key_name
