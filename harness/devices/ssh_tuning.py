"""What paramiko leaves alone: the fastest cipher first, small writes at once, and no write that waits for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import paramiko

from harness.devices.handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNACKNOWLEDGED_MS = 30_000
POLL_SECONDS = 0.5
# Linux alone has it.
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
# Dropbear has no GCM: CTR stays in the list.
FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


_USUAL: tuple[str, ...] = paramiko.Transport._preferred_ciphers  # type: ignore[attr-defined]  # noqa: SLF001 - no public name


class _Prompt(socket.socket):
    """Acknowledges what it receives at once.

    OpenSSH's server sends small packets by Nagle's rule, one for each acknowledgement, and Linux keeps those back for 40 ms while it has
    nothing to send; in a push, everything waits for the window that such a packet would open.
    """

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        if QUICKACK is not None:
            # Not a mode that stays: the kernel goes back to its own ways.
            self.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
        return data


class TunedTransport(Handshake):
    """A connection that sends at once and notices a peer that stops answering.

    Attributes:
        unacknowledged_ms: how long what was sent may stay without an answer of the peer's system.
    """

    unacknowledged_ms = UNACKNOWLEDGED_MS

    _preferred_ciphers = (*FAST, *(name for name in _USUAL if name not in FAST))

    def __init__(self, sock: Any, **kwargs: Any) -> None:  # noqa: ANN401 - paramiko's own
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.unacknowledged_ms)
            timeout = sock.gettimeout()
            sock = _Prompt(fileno=sock.detach())
            sock.settimeout(timeout)
        super().__init__(sock, **kwargs)


def tuned(silence: float) -> type[TunedTransport]:
    """The transport for a device that may be silent for so many seconds."""

    class Transport(TunedTransport):
        unacknowledged_ms = int(min(UNACKNOWLEDGED_MS, 1000 * silence))

    return Transport


class Watch:
    """Cuts a connection in whose midst a write makes no headway: neither a channel's timeout nor keepalives end that.

    Args:
        transport: the connection; None watches nothing.
        seconds: how long a write may take without a word from the device.
    """

    def __init__(self, transport: paramiko.Transport | None, seconds: float) -> None:
        self._transport, self._seconds = transport, seconds
        self._writes: dict[int, tuple[float, int, Callable[[], int]]] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def over(self, heard: Callable[[], int]) -> Iterator[None]:
        """Watch over a write; heard counts what the device said meanwhile."""
        if self._thread is None and self._transport is not None:
            self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
            self._thread.start()
        me = threading.get_ident()
        with self._lock:
            self._writes[me] = (time.monotonic(), heard(), heard)
        try:
            yield
        finally:
            with self._lock:
                self._writes.pop(me, None)

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        """Look every now and then."""
        while not self._ended.wait(POLL_SECONDS):
            with self._lock:
                now = time.monotonic()
                for me, (since, before, heard) in list(self._writes.items()):
                    if heard() != before:
                        self._writes[me] = (now, heard(), heard)
                    elif now - since > self._seconds and self._transport is not None:
                        _cut(self._transport.sock)
                        self._writes.pop(me)
                        break


def _cut(sock: Any) -> None:  # noqa: ANN401 - a socket, or a jump host's channel
    """End a connection from outside: transport.close() would wait for the very write."""
    with contextlib.suppress(OSError):
        if isinstance(sock, socket.socket):
            sock.shutdown(socket.SHUT_RDWR)
        else:
            sock.close()
