"""One SSH connection to a device, logged in, on which channels are opened."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import stamina

from harness.devices.transports.handshake import GreetingError
from harness.devices.transports.route import ssh_connection
from harness.devices.transports.silence import silence
from harness.devices.transports.ssh_errors import OPEN_SECONDS, mapped
from harness.devices.transports.watch import Watch
from harness.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import paramiko

    from harness.devices.device import Device

ATTEMPTS = 4
# Many logins at once would starve each other of this machine's processors; and sshd turns some away from the tenth on that is not
# through yet (MaxStartups).
PACE_SECONDS = 0.02
AT_ONCE = 6
KEEPALIVE_SECONDS = 15


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


class Line:
    """A connection that is open.

    Attributes:
        watch: cuts it when something on it makes no headway.

    Raises:
        DeviceError: if it can't be made.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._connection = ssh_connection(device)
        self.watch = Watch(self._connection.cut, silence(device))
        # As long as the answer to an open takes there; a slow emulator has the same limit.
        self._patience = max(OPEN_SECONDS, device.connect_time)
        try:
            for attempt in stamina.retry_context(on=_turned_away, attempts=ATTEMPTS, wait_initial=0.2, wait_max=2.0):
                with attempt, _TURNS.at(self._connection.first), mapped(device, "connect"):
                    self._connection.open()
            self._connection.transport.set_keepalive(KEEPALIVE_SECONDS)
        except BaseException:
            self.close()
            raise

    @property
    def device(self) -> Device:
        """The device, with the host and the port that are really asked, for messages."""
        return self._connection.device

    def open(self, command: str) -> paramiko.Channel:
        """Run a command on a channel of its own.

        Raises:
            paramiko.ChannelException: if the server refuses another channel.
            paramiko.SSHException: if the connection is gone, or no answer comes.
            watch.StalledError: the same.
        """
        with self.watch.limit(2 * self._patience):
            channel = self._connection.transport.open_session(timeout=self._patience)
            channel.settimeout(silence(self._device))
            channel.exec_command(command)
        return channel

    def close(self) -> None:
        """Close the connection, and the one to the jump host."""
        self.watch.end()
        self._connection.close()


def _turned_away(error: Exception) -> bool:
    """Whether sshd hung up before it said anything, or named the reason: too many connect at once (MaxStartups)."""
    cause = error.__cause__
    return isinstance(error, ConnectError) and isinstance(cause, GreetingError) and cause.busy
