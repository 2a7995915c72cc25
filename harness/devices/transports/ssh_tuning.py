"""Tunes paramiko: it prefers the fastest cipher, and sends small writes at once."""

from __future__ import annotations

import socket

import paramiko

from harness.devices.transports.handshake import SHOWN_CHARACTERS, Handshake

UNACKNOWLEDGED_MS = 30_000
POLL_SECONDS = 0.5
# Linux alone has it.
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
# Dropbear has no GCM: CTR stays in the list.
FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


_USUAL: tuple[str, ...] = paramiko.Transport._preferred_ciphers  # type: ignore[attr-defined]  # noqa: SLF001 - no public name


class TunedTransport(Handshake):
    """A connection that prefers the fastest cipher, and tells why a channel was refused."""

    _preferred_ciphers = (*FAST, *(name for name in _USUAL if name not in FAST))

    def _parse_channel_open_failure(self, m: paramiko.Message) -> None:
        """As paramiko's, which drops the server's own words."""
        channel, code, words = m.get_int(), m.get_int(), m.get_text()
        with self.lock:
            # The one who opens the channel takes both when the event is set.
            self.saved_exception = paramiko.ChannelException(code, words[:SHOWN_CHARACTERS] or f"code {code}")
            self._channels.delete(channel)  # type: ignore[attr-defined]
            if (event := self.channel_events.pop(channel, None)) is not None:
                event.set()


class CertifiedTransport(TunedTransport):
    """A connection to a host for which a CA is known."""

    any_certificate = True


class TunedSocket(socket.socket):
    """Sends at once, acknowledges what it receives at once, and notices a peer that stops answering.

    OpenSSH's server sends small packets by Nagle's rule, one for each acknowledgement, and Linux keeps those back for 40 ms while it has
    nothing to send; in a push, everything waits for the window that such a packet would open.

    Args:
        plain: a connected socket, taken over.
        silence: how long what was sent may stay without an answer of the peer's system, at most half a minute; seconds.
    """

    def __init__(self, plain: socket.socket, silence: float) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(min(UNACKNOWLEDGED_MS, 1000 * silence)))
        super().__init__(fileno=plain.detach())

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive at most so many bytes."""
        data = super().recv(size, flags)
        if QUICKACK is not None:
            # Not a mode that stays: the kernel goes back to its own ways.
            self.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
        return data
