"""The way to a device: its connection, through the hosts that devices.toml or ssh_config names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.devices import host_keys, login, ssh_config
from harness.devices.connection import Way
from harness.devices.host_keys import Checked, Shown
from harness.devices.known_hosts import Known
from harness.errors import ConnectError, RegistryError, UsageError

if TYPE_CHECKING:
    from harness.devices.device import Device
    from harness.devices.registry import Registry
    from harness.devices.ssh_config import Route


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
    before: Way | None
    if device.jump is not None:
        before = way(_jump(device, registry, above), registry, above=(*above, device.name), **options)
    else:
        before = _hops(device, registry, route, (), **options)
    policy = Checked(device, host_keys.known(device, route) if check else Known(()), host_keys.advice(device, route), look=look)
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
        policy = Checked(hop, host_keys.known(hop, hop_route), advice)
        before = Way(hop, hop_route, policy, login.options(hop, hop_route, registry) | options, before)
    return before


def _pinned(registry: Registry, alias: str, route: Route) -> str | None:
    """The host key that devices.toml has for a host of ssh_config."""
    for device in registry.devices.values():
        if device.host_key and device.host in {alias, route.host} and (device.port or route.port) == route.port:
            return device.host_key
    return None
