"""SSH: fabric connections on paramiko, with host keys checked and every backend error mapped at one seam."""

from __future__ import annotations

import contextlib
import logging
import shlex
import threading
import time
from typing import TYPE_CHECKING

import paramiko
import stamina

from harness.devices.handshake import GreetingError
from harness.devices.ssh_errors import mapped, silence
from harness.devices.ssh_tuning import Watch
from harness.devices.transport import LINE_LIMIT
from harness.devices.way import shown_key, way
from harness.errors import ConnectError, LostError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.devices.device import Device
    from harness.devices.registry import Registry

ATTEMPTS = 4
OPEN_SECONDS = 10
CLOSE_SECONDS = 2
# Many logins at once would starve each other of this machine's processors; and sshd turns some away from the tenth on that is not
# through yet (MaxStartups).
PACE_SECONDS = 0.02
AT_ONCE = 6
KEEPALIVE_SECONDS = 15
LOG_BYTES = 4096
WRITE_BYTES = 1 << 15
# What they log, our errors say; without a handler it would reach the terminal, tracebacks and all.
for _library in ("paramiko", "stamina"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


class _Turns:
    """Lets logins begin one after the other, a little apart, and only a few at the same time at one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0
        self._servers: dict[tuple[str, int], threading.Semaphore] = {}

    @contextlib.contextmanager
    def at(self, server: tuple[str, int]) -> Iterator[None]:
        with self._lock:
            turn = self._servers.setdefault(server, threading.Semaphore(AT_ONCE))
        with turn:
            with self._lock:
                now = time.monotonic()
                begin = self._next = max(now, self._next + PACE_SECONDS)
            time.sleep(begin - now)
            yield


_TURNS = _Turns()


class SshTransport:
    """The way to a device over SSH: one connection, any number of channels."""

    def __init__(self, device: Device, registry: Registry) -> None:
        self._device = device
        self._connection = way(device, registry)
        self._watch = Watch(None, silence(device))
        try:
            for attempt in stamina.retry_context(on=_turned_away, attempts=ATTEMPTS, wait_initial=0.2, wait_max=2.0):
                with attempt, _TURNS.at(self._connection.first), mapped(device, "connect"):
                    self._connection.open()
            self._connection.transport.set_keepalive(KEEPALIVE_SECONDS)
            self._watch = Watch(self._connection.transport, silence(device))
        except BaseException:
            self.close()
            raise

    def open(self, words: Sequence[str], step: str) -> SshChannel:
        """Start a process on the device; the words are quoted here and nowhere else.

        Raises:
            DeviceError: if the connection is gone or no channel can be had.
        """
        with mapped(self._device, step):
            channel = self._connection.transport.open_session(timeout=max(OPEN_SECONDS, self._device.connect_time))
            channel.settimeout(silence(self._device))
            channel.exec_command(shlex.join(words))
        return SshChannel(self._device, channel, step, self._watch)

    def close(self) -> None:
        """Close the connection, and the one to the jump host."""
        self._watch.end()
        self._connection.close()


class SshChannel:
    """One process on the device."""

    def __init__(self, device: Device, channel: paramiko.Channel, step: str, watch: Watch) -> None:
        self._device, self._channel, self._step, self._watch = device, channel, step, watch
        self._log = b""
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
        """How many bytes wait to be read: more when it said something."""
        return len(self._channel.in_buffer)

    def end(self) -> None:
        """Close its standard input."""
        with mapped(self._device, self._step):
            self._channel.shutdown_write()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of its standard output.

        Raises:
            DeviceError: if the connection breaks or stays silent too long.
        """
        rest = bytearray()
        while True:
            with mapped(self._device, self._step):
                data = self._channel.recv(1 << 16)
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
        self._drain.join(timeout=1 if self._channel.eof_received else 0)
        if self._channel.eof_sent and self._channel.get_transport().is_active():
            # Dropbear drops the whole connection when a channel is closed before its process has ended.
            self._channel.status_event.wait(CLOSE_SECONDS)
        # On a connection that broke there is nobody to tell.
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            self._channel.close()
        return self._log.decode(errors="replace").strip()

    def _read_log(self) -> None:
        """Keep the end of its standard error."""
        data = b"-"
        while data and not self._channel.closed:
            try:
                data = self._channel.recv_stderr(1 << 16)
            except TimeoutError:
                continue
            self._log = (self._log + data)[-LOG_BYTES:]


def host_key(device: Device, registry: Registry) -> tuple[str, str]:
    """Ask a device for its host key, without logging in; which key is known does not matter.

    Returns:
        The key as devices.toml takes it (``ssh-ed25519 AAAA…``) and its fingerprint (``SHA256:…``).

    Raises:
        ConnectError: if the device does not answer.
    """
    shown = shown_key(device, registry, check=False)
    return f"{shown.key.get_name()} {shown.key.get_base64()}", shown.key.fingerprint


def _turned_away(error: Exception) -> bool:
    """Whether sshd hung up before it said anything, or named the reason: too many connect at once (MaxStartups)."""
    cause = error.__cause__
    return isinstance(error, ConnectError) and isinstance(cause, GreetingError) and cause.busy
