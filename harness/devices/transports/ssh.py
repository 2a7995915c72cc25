"""The transport over SSH."""

from __future__ import annotations

import contextlib
import logging
import shlex
import threading
import time
from typing import TYPE_CHECKING

import paramiko

from harness.devices.transports.line import Line
from harness.devices.transports.route import shown_key
from harness.devices.transports.silence import silence
from harness.devices.transports.ssh_errors import OPEN_SECONDS, mapped
from harness.devices.transports.transport import LINE_LIMIT, SilenceError
from harness.errors import DeviceError, LostError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.devices.device import Device
    from harness.devices.transports.watch import Watch

CLOSE_SECONDS = 2
PAUSE_SECONDS = 0.2
LOG_BYTES = 4096
WRITE_BYTES = 1 << 15
# What they log, our errors say; without a handler it would reach the terminal, tracebacks and all.
for _library in ("paramiko", "stamina"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


class SshTransport:
    """The transport to a device over SSH: one connection with any number of channels, and a second one if the server refuses more."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._lines = [Line(device)]
        self._lock = threading.Lock()

    def open(self, words: Sequence[str], step: str) -> SshChannel:
        """Start a process on the device; the words are quoted here and nowhere else.

        Raises:
            DeviceError: if the connection is gone or no channel can be had.
        """
        command = shlex.join(words)
        line = self._lines[0]
        with mapped(line.device, step):
            try:
                channel = self._steady(line, command)
            except paramiko.ChannelException as refused:
                # A server may allow few channels on a connection (MaxSessions), and one still carries what runs there.
                line = self._another(step, refused)
                channel = self._steady(line, command)
        return SshChannel(line.device, channel, step, line.watch)

    @staticmethod
    def _steady(line: Line, command: str) -> paramiko.Channel:
        """Open a channel; try again once, because the server may still be closing an earlier one."""
        try:
            return line.open(command)
        except paramiko.ChannelException:
            time.sleep(PAUSE_SECONDS)
            return line.open(command)

    def _another(self, step: str, refused: paramiko.ChannelException) -> Line:
        """A second connection, which is kept."""
        with self._lock:
            if len(self._lines) == 1:
                try:
                    self._lines.append(Line(self._device))
                except DeviceError as exc:
                    reason = (
                        f"its SSH server refuses another channel ({refused.text}: MaxSessions in its sshd_config?), "
                        f"and another connection as well: {exc.reason}"
                    )
                    raise type(exc)(self._device.name, step, reason) from exc
            return self._lines[1]

    def close(self) -> None:
        """Close the connection, and the one to the jump host."""
        with self._lock:
            for line in self._lines:
                line.close()


class SshChannel:
    """One process on the device."""

    def __init__(self, device: Device, channel: paramiko.Channel, step: str, watch: Watch) -> None:
        self._device, self._channel, self._step, self._watch = device, channel, step, watch
        self._log = b""
        self._patience: float | None = None
        self._lines = self._read()
        # Standard error shares the channel's window: left unread, a flood of it would stop everything.
        self._drain = threading.Thread(target=self._read_log, daemon=True)
        self._drain.start()

    def write(self, data: bytes) -> None:
        """Write to its standard input; as long as the process gives signs of life, it may take its time.

        Raises:
            DeviceError: if the process or the connection is gone.
        """
        sent, heard = 0, -1
        with mapped(self._device, self._step), self._watch.over(self._heard):
            while sent < len(data):
                try:
                    # What is left, in no more than the peer's window takes at once: a copy of it all would be made each time.
                    sent += self._channel.send(data[sent : sent + WRITE_BYTES])
                except TimeoutError:
                    if heard == self._heard():
                        raise
                    heard = self._heard()
                except OSError:
                    if not self._channel.get_transport().is_active():
                        raise
                    raise RunnerError(
                        self._device.name, self._step, f"the process ended early: {self.close() or 'no message'}"
                    ) from None

    def _heard(self) -> int:
        """How many bytes wait to be read."""
        return len(self._channel.in_buffer)

    def end(self) -> None:
        """Close its standard input."""
        with mapped(self._device, self._step), self._watch.limit(silence(self._device)):
            self._channel.shutdown_write()

    @property
    def status(self) -> int | None:
        """The exit status; None if there is none yet."""
        status: int = self._channel.exit_status
        return status if status >= 0 else None

    def patience(self, seconds: float | None) -> None:
        """Say how long :meth:`lines` waits for more."""
        self._patience = seconds
        self._channel.settimeout(silence(self._device) if seconds is None else seconds)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of its standard output.

        Raises:
            DeviceError: if the connection breaks or stays silent too long.
            SilenceError: if nothing comes within the patience that was set, and the connection works.
        """
        return self._lines

    def _more(self) -> bytes | None:
        """The next bytes; None if none come within the patience."""
        # The channel's own timeout is that of a silent device; but what is received may also have to be acknowledged.
        opening = max(OPEN_SECONDS, self._device.connect_time)
        longest = CLOSE_SECONDS + (silence(self._device) if self._patience is None else self._patience + 2 * opening)
        with mapped(self._device, self._step), self._watch.limit(longest):
            try:
                return self._channel.recv(1 << 16)
            except TimeoutError:
                if self._patience is None:
                    raise
                # Another channel shows that the other side still answers: refused is an answer, too.
                transport = self._channel.get_transport()
                with contextlib.suppress(paramiko.ChannelException):
                    transport.open_session(timeout=opening).close()
                return None

    def _read(self) -> Iterator[bytes]:
        rest = bytearray()
        while True:
            data = self._more()
            if data is None:
                raise SilenceError(bytes(rest))
            if not data:
                break
            rest += data
            # A long line comes in many parts: it is not copied for each.
            if b"\n" in data:
                *whole, rest = rest.split(b"\n")
                for line in whole:
                    yield bytes(line) + b"\n"
            if len(rest) > LINE_LIMIT:
                raise RunnerError(self._device.name, self._step, f"it sent a line of more than {LINE_LIMIT} bytes")
        if rest:
            yield bytes(rest)
        # A connection that breaks ends the stream too, but only a process that ended by itself has an exit status.
        self._channel.status_event.wait(self._device.connect_time)
        if self._channel.exit_status < 0:
            reason = f"the connection to {self._device.host} was lost, or the process there was killed"
            raise LostError(self._device.name, self._step, reason)

    def close(self) -> str:
        """Close the channel and give the last of its standard error."""
        self._drain.join(timeout=CLOSE_SECONDS if self._channel.eof_received else 0)
        if self._channel.eof_sent and self._channel.get_transport().is_active():
            # Dropbear drops the whole connection when a channel is closed before its process has ended.
            self._channel.status_event.wait(CLOSE_SECONDS)
        # On a connection that broke there is nobody to tell.
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException), self._watch.limit(CLOSE_SECONDS):
            self._channel.close()
        return self._log.decode(errors="replace").strip()

    def _read_log(self) -> None:
        """Keep the end of its standard error."""
        data = b"-"
        # What came before the other side closed the channel is still to be read; after it, nothing is given.
        while data:
            try:
                data = self._channel.recv_stderr(1 << 16)
            except TimeoutError:
                if self._channel.closed:
                    break
                continue
            self._log = (self._log + data)[-LOG_BYTES:]


def host_key(device: Device) -> tuple[str, str]:
    """Ask a device for its host key, without logging in; which key is known does not matter.

    Returns:
        The key as devices.toml takes it (``ssh-ed25519 AAAA…``) and its fingerprint (``SHA256:…``).

    Raises:
        ConnectError: if the device does not answer.
    """
    shown = shown_key(device, check=False)
    return f"{shown.key.get_name()} {shown.key.get_base64()}", shown.key.fingerprint
