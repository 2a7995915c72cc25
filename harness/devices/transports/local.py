"""The transport to this machine: subprocesses."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
from typing import TYPE_CHECKING

from harness.devices.transports.transport import LINE_LIMIT, SilenceError
from harness.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.devices.device import Device

LOG_BYTES = 4096
CLOSE_SECONDS = 1.0


class LocalTransport:
    """The transport to this machine."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._channels: list[LocalChannel] = []

    def open(self, words: Sequence[str], step: str) -> LocalChannel:
        """Start a subprocess.

        Raises:
            RunnerError: if the program can't be started.
        """
        channel = LocalChannel(self._device.name, words, step)
        self._channels.append(channel)
        return channel

    def close(self) -> None:
        """End what still runs."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()


class LocalChannel:
    """One subprocess; its standard error goes to a file, so that a flood of it blocks nothing."""

    def __init__(self, name: str, words: Sequence[str], step: str) -> None:
        self._name, self._step = name, step
        self._patience: float | None = None
        self._status: int | None = None
        self._lines = self._read()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        try:
            # A session of its own: Ctrl-C in the terminal is the controller's to answer.
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True
            )
        except OSError as exc:
            self._log.close()
            raise RunnerError(name, step, f"can't start {words[0]}: {exc.strerror}") from exc

    def write(self, data: bytes) -> None:
        """Write to its standard input.

        Raises:
            RunnerError: if it has ended.
        """
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as exc:
            raise RunnerError(self._name, self._step, f"the process ended early: {self._last_words() or exc.strerror}") from exc

    def end(self) -> None:
        """Close its standard input."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    @property
    def status(self) -> int | None:
        """The exit status; None if it has not ended by itself."""
        return self._status

    def patience(self, seconds: float | None) -> None:
        """Say how long :meth:`lines` waits for more."""
        self._patience = seconds

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of its standard output.

        Raises:
            SilenceError: if nothing comes within the patience that was set.
        """
        return self._lines

    def _read(self) -> Iterator[bytes]:
        """Read line by line; a line that is too long comes in parts."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        rest = bytearray()
        while True:
            if self._patience is not None and not select.select([self._process.stdout], [], [], self._patience)[0]:
                raise SilenceError(bytes(rest))
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            rest += data
            if b"\n" in data:
                *whole, rest = rest.split(b"\n")
                for line in whole:
                    yield bytes(line) + b"\n"
            if rest and (not data or len(rest) > LINE_LIMIT):
                yield bytes(rest)
                rest.clear()
            if not data:
                return

    def close(self) -> str:
        """End the subprocess and give the last of its standard error."""
        if self._log.closed:
            return ""
        self.end()
        if self._process.stdout is not None:
            self._process.stdout.close()
        try:
            self._status = self._process.wait(timeout=CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        words = self._last_words()
        self._log.close()
        return words

    def _last_words(self) -> str:
        """The end of its standard error."""
        size = self._log.seek(0, 2)
        self._log.seek(max(0, size - LOG_BYTES))
        return self._log.read().decode(errors="replace").strip()
