"""The way to one SSH server: a fabric connection, and the ways that it goes through, each with its host key checked.

Fabric's own accepts any host key (its issue 2071) and takes the hops of a ProxyJump in the wrong order, so it is told nothing of ssh_config.
"""

from __future__ import annotations

import base64
import contextlib
import os
from typing import TYPE_CHECKING, Any

import paramiko
from fabric import Config, Connection
from paramiko.config import SSHConfig
from paramiko.ssh_exception import IncompatiblePeer

from harness.devices import known_hosts, ssh_config
from harness.devices.known_hosts import Known
from harness.devices.proxy import ProxyCommand
from harness.devices.ssh_errors import CONNECT_SECONDS, mapped
from harness.errors import AuthenticationError, ConnectError, DeviceError, HostKeyError, RegistryError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.devices.registry import Device, Registry
    from harness.devices.ssh_config import Route

AUTH_SECONDS = 20
RSA = ("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")
OFFERED: tuple[str, ...] = paramiko.Transport._preferred_keys  # type: ignore[attr-defined]  # noqa: SLF001 - nothing public tells them
NO_KEY_IN_COMMON = "host key"


class Checked(paramiko.MissingHostKeyPolicy):
    """Lets a known key pass, refuses any other, and says how to trust it.

    Paramiko's own check knows one key of a kind for a host, no patterns and no aliases; so it is given none, and asks this.
    """

    def __init__(self, device: Device, known: Known, advice: str, *, look: bool = False) -> None:
        self._device, self.known, self._advice, self._look = device, known, advice, look

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Decide on the key that was shown."""
        if key in self.known.revoked:
            reason = f"the host key of {hostname} is revoked in known_hosts: {key.get_name()} {key.fingerprint}"
            raise HostKeyError(self._device.name, "connect", reason)
        if self.known.trusted and key not in self.known.trusted:
            raise paramiko.BadHostKeyException(hostname, key, self.known.trusted[0])
        if self._look:
            raise Shown(key, known=bool(self.known.trusted))
        if not self.known.trusted:
            reason = f"unknown host key of {hostname}: {key.get_name()} {key.fingerprint}; {self._advice}"
            raise HostKeyError(self._device.name, "connect", reason)

    @property
    def unwanted(self) -> list[str]:
        """Kinds of host keys that must not be agreed on, for only one of a known kind can be checked."""
        kinds = {key.get_name() for key in self.known.trusted}
        wanted = {kind for name in kinds for kind in (RSA if name == "ssh-rsa" else (name,))}
        return [kind for kind in OFFERED if kind not in wanted] if wanted else []


class Shown(Exception):  # noqa: N818 - carries a key out of paramiko, no error
    """The key that a server shows.

    Attributes:
        known: whether it was known, so it is the one expected.
    """

    def __init__(self, key: paramiko.PKey, *, known: bool) -> None:
        self.key, self.known = key, known


class Way:
    """An SSH connection that can be opened, through others if need be."""

    def __init__(self, device: Device, route: Route, policy: Checked, options: dict[str, Any], before: Way | None) -> None:
        # Errors name what was really asked, not the alias.
        self._device = device.model_copy(update={"host": route.host, "port": route.port})
        self._policy, self._before, self._command = policy, before, route.command
        self._proxy: ProxyCommand | None = None
        self._options = {"banner_timeout": CONNECT_SECONDS, "auth_timeout": AUTH_SECONDS, **options}
        if policy.unwanted:
            self._options["disabled_algorithms"] = {"keys": policy.unwanted}
        self._connection = Connection(
            route.host, user=route.user, port=route.port, gateway=False, connect_timeout=CONNECT_SECONDS,
            connect_kwargs=self._options, config=Config(ssh_config=SSHConfig(), lazy=True),
        )  # fmt: skip
        self._connection.client.set_missing_host_key_policy(policy)

    @property
    def transport(self) -> paramiko.Transport:
        """Paramiko's end of it, once it is open."""
        transport: paramiko.Transport = self._connection.transport
        return transport

    def open(self) -> None:
        """Connect and log in, here and on the way; does nothing if that was done.

        Raises:
            DeviceError: a member of its branch; it names the hop that failed.
        """
        if self._connection.is_connected:
            return
        if self._before is not None:
            self._options["sock"] = self._through(self._before)
        elif self._command is not None:
            self._options["sock"] = self._proxy = ProxyCommand(self._command)
        try:
            with mapped(self._device, "connect"):
                try:
                    self._connection.open()
                except IncompatiblePeer as exc:
                    if NO_KEY_IN_COMMON not in str(exc) or not self._policy.known.trusted:
                        raise
                    raise HostKeyError(self._device.name, "connect", self._other_kind()) from exc
        except DeviceError:
            fault = self._proxy.fault() if self._proxy is not None else None
            if fault is None:
                raise
            raise ConnectError(self._device.name, "connect", fault) from None

    def close(self) -> None:
        """Close it and those it goes through, also one that never came about.

        Fabric closes only what is connected; a refused login would keep its socket, and sshd its place among MaxStartups.
        """
        with contextlib.suppress(Exception):
            self._connection.close()
        self._connection.client.close()
        if self._proxy is not None:
            self._proxy.close()
        if self._before is not None:
            self._before.close()

    def _through(self, hop: Way) -> paramiko.Channel:
        """Open a channel to this server from the hop before it."""
        jump = f"{hop._device.host}:{hop._device.port}"
        try:
            hop.open()
        except DeviceError as exc:
            reason = f"on the way there, at the jump host {jump}: {exc.reason}"
            # What caused it tells whether it is worth another try.
            raise type(exc)(self._device.name, exc.step, reason) from exc.__cause__
        to = (str(self._device.host), int(self._device.port or 0))
        try:
            with mapped(hop._device, "connect"):
                return hop.transport.open_channel("direct-tcpip", to, ("", 0), timeout=CONNECT_SECONDS)
        except DeviceError as exc:
            said = exc.__cause__.text if isinstance(exc.__cause__, paramiko.ChannelException) else exc.reason
            reason = f"the jump host {jump} can't reach {to[0]}:{to[1]}: {said}"
            raise ConnectError(self._device.name, "connect", reason) from exc

    def _other_kind(self) -> str:
        kinds = ", ".join(sorted({key.get_name() for key in self._policy.known.trusted}))
        return (
            f"the host key of {self._device.host}:{self._device.port} is not the one expected: it has none of the known kind ({kinds}); "
            f"if the device was installed anew: harness device trust {self._device.name} --replace"
        )


def way(
    device: Device,
    registry: Registry,
    *,
    look: bool = False,
    check: bool = True,
    above: tuple[str, ...] = (),
    **options: Any,  # noqa: ANN401
) -> Way:
    """Build the way to a device; nothing is opened yet.

    Args:
        device: the device; what devices.toml says of it wins over ssh_config.
        registry: where its ``jump`` is found.
        look: raise the host key as :class:`Shown` instead of logging in.
        check: refuse keys that are not known; False only together with look.
        above: the devices that are reached through it.
        options: for paramiko's connect, at every hop.

    Raises:
        RegistryError: if its jump host is no device, or goes in a circle.
        AuthenticationError: if the key or the password that it names is not there.
        UsageError: if ssh_config can't be read.
    """
    route = ssh_config.route(str(device.host), device.user, device.port)
    login = _login(device, route, registry)
    before: Way | None
    if device.jump is not None:
        before = way(_jump(device, registry, above), registry, above=(*above, device.name), **options)
    else:
        before = _hops(device, registry, route, (), **options)
    policy = Checked(device, _known(device, route) if check else Known(()), _advice(device, route), look=look)
    return Way(device, route, policy, login | options, before)


def shown_key(device: Device, registry: Registry, *, check: bool) -> Shown:
    """Ask a device for its host key, without logging in.

    Args:
        device: the device.
        registry: where its ``jump`` is found.
        check: refuse another key than the known one, if one is known.

    Raises:
        ConnectError: if the device does not answer.
        HostKeyError: if it shows another key than the one known.
    """
    asked = way(device, registry, look=True, check=check)
    try:
        asked.open()
    except Shown as shown:
        return shown
    finally:
        asked.close()
    raise ConnectError(device.name, "connect", "it showed no host key")


def _jump(device: Device, registry: Registry, above: tuple[str, ...]) -> Device:
    """The device to go through."""
    found = registry.devices.get(device.jump or "")
    if found is None or found.name == device.name or found.transport != "ssh":
        message = (
            f"{registry.path}: '{device.name}.jump': '{device.jump}' is not another device; give the jump host a table of its own"
        )
        raise RegistryError(message)
    if found.name in above:
        circle = " → ".join([*above[above.index(found.name) :], device.name, found.name])
        message = f"{registry.path}: '{device.name}.jump' goes in a circle: {circle}"
        raise RegistryError(message)
    return found


def _hops(device: Device, registry: Registry, route: Route, above: tuple[tuple[str, int], ...], **options: Any) -> Way | None:  # noqa: ANN401
    """Build the way through the hosts of ssh_config's ProxyJump, the first of which may have one of its own."""
    here = (route.host, route.port)
    before: Way | None = None
    for number, spec in enumerate(route.jump):
        user, alias, port = ssh_config.split(spec)
        hop_route = ssh_config.route(alias, user, port)
        there = (hop_route.host, hop_route.port)
        if there == here:
            # 'Host *' with a ProxyJump means the jump host itself, too.
            return before
        if there in above:
            message = f"~/.ssh/config: the ProxyJump to {route.host}:{route.port} goes in a circle, through {alias}"
            raise UsageError(message)
        hop = device.model_copy(
            update={"host": alias, "port": port, "user": user, "jump": None, "identity_file": None, "password_env": None}
            | {"host_key": _pinned(registry, alias, hop_route)}
        )
        if number == 0:
            before = _hops(hop, registry, hop_route, (*above, here), **options)
        advice = f"compare it with the device's own, then: harness device add {alias} {spec}"
        policy = Checked(hop, _known(hop, hop_route), advice)
        before = Way(hop, hop_route, policy, _login(hop, hop_route, registry) | options, before)
    return before


def _pinned(registry: Registry, alias: str, route: Route) -> str | None:
    """The host key that devices.toml has for a host of ssh_config."""
    for device in registry.devices.values():
        if device.host_key and device.host in {alias, route.host} and (device.port or route.port) == route.port:
            return device.host_key
    return None


def _known(device: Device, route: Route) -> Known:
    """The keys that the server may show: the one of devices.toml, or else those of known_hosts."""
    if device.host_key is None:
        return known_hosts.find(route.known_hosts, route.key_name)
    kind, encoded = device.host_key.split()[:2]
    try:
        return Known((paramiko.PKey.from_type_string(kind, base64.b64decode(encoded)),))
    except Exception as exc:
        message = f"'{device.name}.host_key': not a {kind} public key ({exc}); harness device trust {device.name} writes it"
        raise RegistryError(message) from exc


def _advice(device: Device, route: Route) -> str:
    """What to do about an unknown key."""
    advice = f"compare it with what 'ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub' says on the device, then: harness device trust {device.name}"
    if route.strict in {"no", "off", "accept-new"}:
        advice += f" (StrictHostKeyChecking {route.strict} in ssh_config does not count here)"
    return advice


def _login(device: Device, route: Route, registry: Registry) -> dict[str, Any]:
    """How to log in, for paramiko: what devices.toml names and nothing else, or else what ssh would try."""
    options: dict[str, Any] = {}
    if device.identity_file is not None:
        file = device.identity_file.expanduser()
        if not file.is_file():
            reason = f"identity_file {file}: no such file; correct it in {registry.path or 'devices.toml'}"
            raise AuthenticationError(device.name, "connect", reason)
        options |= {"key_filename": [str(file)]}
    if device.password_env is not None:
        if device.password_env not in os.environ:
            reason = f"the environment variable {device.password_env} (password_env) is not set"
            raise AuthenticationError(device.name, "connect", reason)
        options |= {"password": os.environ[device.password_env]}
    if options:
        return options | {"look_for_keys": False, "allow_agent": False}
    return {
        "key_filename": [str(file) for file in route.identities],
        "look_for_keys": not route.identities,
        # IdentitiesOnly keeps the agent's other keys away, but the agent may be what holds a named one.
        "allow_agent": route.agent and (not route.only or any(_locked(file) for file in route.identities)),
    }


def _locked(file: Path) -> bool:
    """Whether a private key has a passphrase."""
    try:
        paramiko.PKey.from_path(file)
    except (paramiko.PasswordRequiredException, TypeError):
        return True
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the login says
        return False
    return False
