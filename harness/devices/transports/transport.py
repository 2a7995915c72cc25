"""The seam between the harness and the ways to a device: a transport opens channels, and a channel is one remote process.

Tests put a fake transport here; adding a way is one module with a class and one line in :data:`TRANSPORTS`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from harness.devices.blame import blamed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.devices.device import Device

# Named, not imported: a run on this machine alone has no use for an SSH library.
TRANSPORTS = {
    "local": "harness.devices.transports.local:LocalTransport",
    "ssh": "harness.devices.transports.ssh:SshTransport",
}
LINE_LIMIT = 64 * 1024 * 1024


class SilenceError(Exception):
    """Nothing more was heard within the patience of a channel, and the way to the device works.

    Args:
        unfinished: what stands in a line that has no end yet.
    """

    def __init__(self, unfinished: bytes) -> None:
        super().__init__("nothing was heard")
        self.unfinished = unfinished


class Channel(Protocol):
    """One process on the device.

    Every method raises a :class:`~harness.errors.DeviceError` when the way to the device fails.
    """

    @property
    def status(self) -> int | None:
        """The exit status of the process; None if it is not known to have ended."""

    def write(self, data: bytes) -> None:
        """Write to its standard input."""

    def end(self) -> None:
        """Close its standard input."""

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of its standard output, newline included, each at most :data:`LINE_LIMIT` bytes, until it ends.

        Asked again, it goes on where it was.

        Raises:
            SilenceError: if nothing comes within the patience that was set.
        """

    def patience(self, seconds: float | None) -> None:
        """Say how long :meth:`lines` waits for more; None waits as long as a device may be silent."""

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


def connect(device: Device) -> Transport:
    """Open the way to a device.

    Returns:
        The way; whatever it or a channel on it raises is a :class:`~harness.errors.DeviceError`, and closing them raises nothing.

    Raises:
        DeviceError: a member of its branch that says why not.
    """
    from harness.devices.transports.guarded import Guarded  # noqa: PLC0415 - it imports this module

    with blamed(device.name, "connect"):
        module, _, name = TRANSPORTS[device.transport].partition(":")
        opened: Transport = getattr(importlib.import_module(module), name)(device)
    return Guarded(opened, device.name)
