"""The seam between the harness and the ways to a device: a transport opens channels, and a channel is one remote process.

Tests put a fake transport here; adding a way is one module with a class and one line in :data:`TRANSPORTS`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.devices.device import Device
    from harness.devices.registry import Registry

# Named, not imported: a run on this machine alone has no use for an SSH library.
TRANSPORTS = {
    "local": "harness.devices.local:LocalTransport",
    "ssh": "harness.devices.ssh:SshTransport",
}
LINE_LIMIT = 64 * 1024 * 1024


class Channel(Protocol):
    """One process on the device.

    Every method raises a :class:`~harness.errors.DeviceError` when the way to the device fails.
    """

    def write(self, data: bytes) -> None:
        """Write to its standard input."""

    def end(self) -> None:
        """Close its standard input."""

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of its standard output, newline included, each at most :data:`LINE_LIMIT` bytes, until it ends."""

    def close(self) -> str:
        """Close the channel and give the last of its standard error, for a message."""


class Transport(Protocol):
    """An open way to a device."""

    def open(self, words: Sequence[str], step: str) -> Channel:
        """Start a process.

        Args:
            words: the program and its arguments; never a shell line.
            step: what it is for, named in errors.
        """

    def close(self) -> None:
        """Close the way and every channel on it."""


def connect(device: Device, registry: Registry) -> Transport:
    """Open the way to a device.

    Raises:
        DeviceError: a member of its branch that says why not.
    """
    module, _, name = TRANSPORTS[device.transport].partition(":")
    opened: Transport = getattr(importlib.import_module(module), name)(device, registry)
    return opened
