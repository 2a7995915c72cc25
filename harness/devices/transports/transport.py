"""What every transport provides: it opens channels to a device, and a channel is one process there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


LINE_LIMIT = 64 * 1024 * 1024


class SilenceError(Exception):
    """Nothing more was heard within the patience of a channel, and the connection to the device works.

    Args:
        unfinished: what stands in a line that has no end yet.
    """

    def __init__(self, unfinished: bytes) -> None:
        super().__init__("nothing was heard")
        self.unfinished = unfinished


class Channel(Protocol):
    """One process on the device.

    Every method raises a :class:`~harness.errors.DeviceError` when the connection to the device fails.
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
    """An open connection to a device."""

    def open(self, words: Sequence[str], step: str) -> Channel:
        """Start a process.

        Args:
            words: the program and its arguments; never a shell line.
            step: what it is for, named in errors.
        """

    def close(self) -> None:
        """Close the connection and every channel on it."""
