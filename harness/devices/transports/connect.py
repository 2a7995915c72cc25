"""How a connection to a device is opened."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from harness.devices.blame import blamed
from harness.devices.transport_registry import TRANSPORTS
from harness.devices.transports.guarded import Guarded

if TYPE_CHECKING:
    from harness.devices.device import Device
    from harness.devices.transports.transport import Transport


def connect(device: Device) -> Transport:
    """Connect to a device.

    Returns:
        The connection; whatever it or a channel on it raises is a :class:`~harness.errors.DeviceError`, and closing them raises nothing.

    Raises:
        DeviceError: a member of its branch that says why not.
    """
    with blamed(device.name, "connect"):
        module, _, name = TRANSPORTS[device.transport].partition(":")
        opened: Transport = getattr(importlib.import_module(module), name)(device)
    return Guarded(opened, device.name)
