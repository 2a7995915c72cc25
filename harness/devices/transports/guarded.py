"""Wraps a transport: whatever it or a library below it raises becomes an error of that device alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.devices.blame import blamed, harmless
from harness.devices.transports.transport import SilenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.devices.transports.transport import Channel, Transport


class Guarded:
    """A transport whose calls raise nothing but :class:`~harness.errors.DeviceError`.

    Args:
        transport: the real one.
        device: the device's name.
    """

    def __init__(self, transport: Transport, device: str) -> None:
        self._transport, self._device = transport, device

    def open(self, words: Sequence[str], step: str) -> GuardedChannel:
        """Start a process.

        Raises:
            DeviceError: for whatever goes wrong.
        """
        with blamed(self._device, step):
            return GuardedChannel(self._transport.open(words, step), self._device, step)

    def close(self) -> None:
        """Close the transport, and ignore its errors: what was received before counts."""
        with harmless():
            self._transport.close()


class _Lines:
    """Lines of a channel. Unlike a generator, it does not close the channel's own iterator when it is discarded."""

    def __init__(self, lines: Iterator[bytes], device: str, step: str) -> None:
        self._lines, self._device, self._step = lines, device, step

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with blamed(self._device, self._step, SilenceError, StopIteration):
            return next(self._lines)


class GuardedChannel:
    """A channel whose calls raise nothing but :class:`~harness.errors.DeviceError`.

    Args:
        channel: the real one.
        device: the device's name.
        step: what it is for, named in errors.
    """

    def __init__(self, channel: Channel, device: str, step: str) -> None:
        self._channel, self._device, self._step = channel, device, step

    @property
    def status(self) -> int | None:
        """The exit status of the process; None if it is not known to have ended, or can't be had."""
        found: list[int | None] = [None]
        with harmless():
            found.append(self._channel.status)
        return found[-1]

    def write(self, data: bytes) -> None:
        """Write to the process's standard input.

        Raises:
            DeviceError: for whatever goes wrong.
        """
        with blamed(self._device, self._step):
            self._channel.write(data)

    def end(self) -> None:
        """Close its standard input.

        Raises:
            DeviceError: for whatever goes wrong.
        """
        with blamed(self._device, self._step):
            self._channel.end()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of its standard output.

        Raises:
            SilenceError: if nothing comes within the patience that was set.
            DeviceError: for whatever goes wrong.
        """
        with blamed(self._device, self._step, SilenceError):
            return _Lines(self._channel.lines(), self._device, self._step)

    def patience(self, seconds: float | None) -> None:
        """Say how long :meth:`lines` waits.

        Raises:
            DeviceError: for whatever goes wrong.
        """
        with blamed(self._device, self._step):
            self._channel.patience(seconds)

    def close(self) -> str:
        """Close the channel and give the last of its standard error, or nothing if that can't be had: what was heard before stands."""
        words: list[str] = []
        with harmless():
            words.append(self._channel.close())
        return "".join(words)
