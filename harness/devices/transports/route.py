"""The way to a device: its connection, through the hosts that devices.toml or ssh_config names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.devices.blame import blamed
from harness.devices.registry import WrongEntry
from harness.devices.transports import host_keys, login, ssh_config
from harness.devices.transports.connection import Way
from harness.devices.transports.host_keys import Checked, Shown
from harness.devices.transports.known_hosts import KnownKeys
from harness.errors import AuthenticationError, ConnectError, EntryError, RegistryError, UsageError

if TYPE_CHECKING:
    from harness.devices.device import Device
    from harness.devices.registry import Registry
    from harness.devices.transports.ssh_config import Route


STEP = "entry"


def way(device: Device, registry: Registry, *, look: bool = False, check: bool = True, **options: Any) -> Way:  # noqa: ANN401
    """Build the way to a device; nothing is opened yet.

    Args:
        device: the device; what devices.toml says of it wins over ssh_config.
        registry: where its ``jump`` is found.
        look: raise the host key as :class:`Shown` instead of logging in.
        check: refuse keys that are not known; False only together with look.
        options: for paramiko's connect, at every hop.

    Raises:
        EntryError: if what devices.toml or ssh_config says of it can't be followed: its jump host is no device or goes in a circle, its
            host key is none, the key or the password that it names is not there, or a file can't be read.
    """
    with blamed(device.name, STEP):
        try:
            return _way(device, registry, (), look=look, check=check, **options)
        except AuthenticationError as exc:
            # Nobody was asked yet: what it names to log in with is not there.
            place = f"{registry.where(exc.device, exc.key)}: " if exc.device in registry.entries else ""
            way_there = "" if exc.device == device.name else f"on the way there, at '{exc.device}': "
            raise EntryError(device.name, STEP, f"{place}{way_there}{exc.reason}") from exc


def _way(
    device: Device,
    registry: Registry,
    above: tuple[str, ...],
    *,
    look: bool = False,
    check: bool = True,
    **options: Any,  # noqa: ANN401
) -> Way:
    """As :func:`way`, for a device through which those above are reached."""
    route = ssh_config.route(str(device.host), device.user, device.port)
    before: Way | None
    if device.jump is not None:
        before = _way(_jump(device, registry, above), registry, (*above, device.name), **options)
    else:
        before = _hops(device, registry, route, (), **options)
    known = host_keys.known(device, route, registry) if check else KnownKeys(())
    policy = Checked(device, known, route, host_keys.advice(device, route), look=look)
    return Way(device, route, policy, login.options(device, route, registry) | options, before)


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
        with blamed(device.name, "connect", Shown):
            asked.open()
    except Shown as shown:
        return shown
    finally:
        asked.close()
    raise ConnectError(device.name, "connect", "it showed no host key")


def _jump(device: Device, registry: Registry, above: tuple[str, ...]) -> Device:
    """The device to go through."""
    found = registry.entries.get(device.jump or "")
    place = registry.where(device.name, "jump")
    if isinstance(found, WrongEntry):
        message = f"{place}: '{device.name}.jump': the entry of '{found.name}' is wrong:\n{found.fault}"
        raise RegistryError(message)
    if found is None or found.name == device.name or found.transport != "ssh":
        message = f"{place}: '{device.name}.jump': '{device.jump}' is not another device in the file; give the jump host a table of its own"
        raise RegistryError(message)
    if found.name in above:
        circle = " → ".join([*above[above.index(found.name) :], device.name, found.name])
        message = f"{place}: '{device.name}.jump' goes in a circle: {circle}"
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
        pinned = _pinned(registry, alias, hop_route)
        hop = device.model_copy(
            update={"host": alias, "port": port, "user": user, "jump": None, "identity_file": None, "password_env": None}
            | {"host_key": pinned.host_key if pinned else None}
        )
        if number == 0:
            before = _hops(hop, registry, hop_route, (*above, here), **options)
        entry = pinned.name if pinned else None
        known = host_keys.known(hop, hop_route, registry, entry)
        policy = Checked(hop, known, hop_route, host_keys.hop_advice(alias, spec, hop_route, known, entry))
        before = Way(hop, hop_route, policy, login.options(hop, hop_route, registry) | options, before)
    return before


def _pinned(registry: Registry, alias: str, route: Route) -> Device | None:
    """The entry of devices.toml that has the host key of a host of ssh_config."""
    for device in registry.devices.values():
        if device.host_key and device.host in {alias, route.host} and (device.port or route.port) == route.port:
            return device
    return None
