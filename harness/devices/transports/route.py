"""The connection to a device, through the jump hosts that devices.toml or ssh_config names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.devices.blame import blamed
from harness.devices.transports import host_keys, login, ssh_config
from harness.devices.transports.connection import SshConnection
from harness.devices.transports.host_keys import Checked, Shown
from harness.devices.transports.known_hosts import KnownKeys
from harness.errors import AuthenticationError, ConnectError, EntryError, RegistryError, UsageError

if TYPE_CHECKING:
    from harness.devices.device import Device
    from harness.devices.transports.ssh_config import Route


STEP = "entry"


def ssh_connection(device: Device, *, look: bool = False, check: bool = True, **options: Any) -> SshConnection:  # noqa: ANN401
    """Prepare the connection to a device, through its jump hosts; nothing is opened yet.

    Args:
        device: the device; what devices.toml says of it wins over ssh_config.
        look: raise the host key as :class:`Shown` instead of logging in.
        check: refuse keys that are not known; False only together with look.
        options: for paramiko's connect, at every hop.

    Raises:
        EntryError: if what devices.toml or ssh_config says of it can't be followed: its host key is none, the key or the
            password that it names is not there, the jump hosts of ssh_config go in a circle, or a file can't be read.
    """
    with blamed(device.name, STEP):
        try:
            return _through(device, look=look, check=check, **options)
        except AuthenticationError as exc:
            # Nobody was asked yet: what it names to log in with is not there.
            place = f"{device.origin.where(exc.device, exc.key)}: "
            way_there = "" if exc.device == device.name else f"on the way there, at '{exc.device}': "
            raise EntryError(device.name, STEP, f"{place}{way_there}{exc.reason}") from exc


def _through(device: Device, *, look: bool = False, check: bool = True, **options: Any) -> SshConnection:  # noqa: ANN401
    """As :func:`ssh_connection`, for a device and for each jump host of devices.toml."""
    route = ssh_config.route(str(device.host), device.user, device.port)
    jump = device.origin.jump
    if jump is None and device.jump is not None:
        message = f"'{device.name}' was not read from a devices.toml, so its jump host '{device.jump}' is unknown"
        raise RegistryError(message)
    before = _hops(device, route, (), **options) if jump is None else _through(jump, **options)
    known = host_keys.known(device, route) if check else KnownKeys(())
    policy = Checked(device, known, route, host_keys.advice(device, route), look=look)
    return SshConnection(device, route, policy, login.options(device, route) | options, before)


def shown_key(device: Device, *, check: bool) -> Shown:
    """Ask a device for its host key, without logging in.

    Args:
        device: the device.
        check: refuse another key than the known one, if one is known.

    Raises:
        ConnectError: if the device does not answer.
        HostKeyError: if it shows another key than the one known.
    """
    asked = ssh_connection(device, look=True, check=check)
    try:
        with blamed(device.name, "connect", Shown):
            asked.open()
    except Shown as shown:
        return shown
    finally:
        asked.close()
    raise ConnectError(device.name, "connect", "it showed no host key")


def _hops(device: Device, route: Route, above: tuple[tuple[str, int], ...], **options: Any) -> SshConnection | None:  # noqa: ANN401
    """Prepare the connections through the hosts of ssh_config's ProxyJump, the first of which may have one of its own."""
    here = (route.host, route.port)
    before: SshConnection | None = None
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
        pinned = _pinned(device, alias, hop_route)
        hop = device.model_copy(
            update={"host": alias, "port": port, "user": user, "jump": None, "identity_file": None, "password_env": None}
            | {"host_key": pinned.host_key if pinned else None}
        )
        if number == 0:
            before = _hops(hop, hop_route, (*above, here), **options)
        entry = pinned.name if pinned else None
        known = host_keys.known(hop, hop_route, entry)
        policy = Checked(hop, known, hop_route, host_keys.hop_advice(alias, spec, hop_route, known, entry))
        before = SshConnection(hop, hop_route, policy, login.options(hop, hop_route) | options, before)
    return before


def _pinned(device: Device, alias: str, route: Route) -> Device | None:
    """The entry of devices.toml that has the host key of a host of ssh_config."""
    for other in device.origin.pinned:
        if other.host in {alias, route.host} and (other.port or route.port) == route.port:
            return other
    return None
