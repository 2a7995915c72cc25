"""The SSH handshake; it keeps what the server said about itself, for the message if it fails.

Paramiko says that the banner could not be read, or that nothing acceptable was offered, but not what was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.message import Message
from paramiko.packet import Packetizer
from paramiko.ssh_exception import IncompatiblePeer

from harness.devices.transports.certificates import SUFFIX

if TYPE_CHECKING:
    import threading

# RFC 4253, 4.2: a server may send lines before its version.
GREETING_BYTES = 1 << 14
SHOWN_CHARACTERS = 200
# As OpenSSH's own limit; RFC 4253, 6.1 asks for no more than 35,000.
PACKET_BYTES = 1 << 18
# Not algorithms: announcements that are carried in the same list.
ANNOUNCED = ("ext-info-", "kex-strict-")
# Each kind, what paramiko calls the server's lists (one for each direction), and its own.
LISTS = (
    ("key exchange", ("kex_algo_list",), "kex"),
    ("host key", ("server_key_algo_list",), "keys"),
    ("cipher", ("client_encrypt_algo_list", "server_encrypt_algo_list"), "ciphers"),
    ("MAC", ("client_mac_algo_list", "server_mac_algo_list"), "macs"),
    ("compression", ("client_compress_algo_list", "server_compress_algo_list"), "compression"),
)


class GreetingError(paramiko.SSHException):
    """The server did not begin with its SSH version.

    Attributes:
        heard: what it said instead, in printable characters; empty if it said nothing.
        silent: whether it kept the connection open, waiting.
    """

    def __init__(self, heard: str, *, silent: bool) -> None:
        super().__init__(heard or "no greeting")
        self.heard, self.silent = heard, silent

    @property
    def busy(self) -> bool:
        """Whether it hung up as sshd does when too many connect at once."""
        return not self.silent and (not self.heard or "MaxStartups" in self.heard)


class ExchangeError(paramiko.SSHException):
    """The server began with its SSH version, but no keys were agreed on in time."""


@dataclass(frozen=True)
class Lack:
    """A kind of algorithm of which the two sides have none in common.

    Attributes:
        kind: the kind.
        theirs: what the server offers.
        ours: what is supported here; for this server it may be fewer: only the kinds of host key that are known.
    """

    kind: str
    theirs: tuple[str, ...]
    ours: tuple[str, ...]


class AlgorithmError(IncompatiblePeer):
    """Server and client have an algorithm of some kind not in common.

    Attributes:
        lacking: those kinds.
    """

    def __init__(self, lacking: tuple[Lack, ...]) -> None:
        super().__init__("no " + " and no ".join(lack.kind for lack in lacking) + " in common")
        self.lacking = lacking


class _Listening(Packetizer):
    """Keeps what was read before the first packet."""

    heard = b""
    greeted = False

    def write_all(self, out: Any) -> None:  # noqa: ANN401 - paramiko's own
        """Write; but where the server hung up before its greeting, its last words are still to be read."""
        try:
            super().write_all(out)
        except EOFError:
            if self.greeted:
                raise

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - paramiko's own
        """Read so many bytes; a length that no packet has is not believed."""
        if n > PACKET_BYTES:
            message = f"the server sent a malformed packet of {n} bytes"
            raise paramiko.SSHException(message)
        data: bytes = super().read_all(n, check_rekey)
        return data

    def _read_timeout(self, timeout: float) -> bytes:
        data: bytes = super()._read_timeout(timeout)  # type: ignore[misc]
        self.heard += data
        if len(self.heard) > GREETING_BYTES:
            message = "no SSH version in the first bytes"
            raise OSError(message)
        return data


class Handshake(paramiko.Transport):
    """A connection whose beginning is told in our errors.

    Attributes:
        any_certificate: whether a certificate may be of any kind of key, not only of those that are known: its CA is known.
        goodbye: the server's last words, if it said any.
        host_proof: the host key as it was shown first, and its signature of the session's identifier.
    """

    packetizer: _Listening
    any_certificate = False
    goodbye = ""
    host_proof: tuple[bytes, bytes] | None = None

    def __init__(self, sock: Any, **kwargs: Any) -> None:  # noqa: ANN401 - paramiko's own
        super().__init__(sock, packetizer_class=_Listening, **kwargs)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Kinds of host keys; certificates come first, as ssh has it."""
        usual: tuple[str, ...] = tuple(super().preferred_keys)
        plain = tuple(kind for kind in usual if not kind.endswith(SUFFIX))
        kinds: tuple[str, ...] = self._preferred_keys if self.any_certificate else plain  # type: ignore[attr-defined]
        return (*(kind + SUFFIX for kind in kinds), *plain)

    def start_client(self, event: threading.Event | None = None, timeout: float | None = None) -> None:
        """Agree on keys.

        Raises:
            GreetingError: if the server does not begin with its SSH version within the time.
            ExchangeError: if it does, but no keys are agreed on within the time.
            AlgorithmError: if the two sides can't agree.
        """
        super().start_client(event, timeout)
        if event is None and not self.initial_kex_done:
            # Paramiko returns when the time is up as if all were well.
            raise ExchangeError if self.remote_version else GreetingError(self._heard(), silent=True)

    def get_exception(self) -> Exception | None:
        """What ended the connection; whatever reading a malformed packet raised is an error of the connection."""
        exc: Exception | None = super().get_exception()
        if exc is None or isinstance(exc, paramiko.SSHException | EOFError | OSError):
            return exc
        wrapped = paramiko.SSHException(f"the server sent a malformed packet ({type(exc).__name__}: {exc})")
        wrapped.__cause__ = exc
        return wrapped

    def _heard(self) -> str:
        text = self.packetizer.heard.decode(errors="replace")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:SHOWN_CHARACTERS]

    def _check_banner(self) -> None:
        try:
            super()._check_banner()  # type: ignore[misc]
        except IncompatiblePeer:
            raise
        except paramiko.SSHException as exc:
            raise GreetingError(self._heard(), silent=isinstance(exc.__context__, TimeoutError)) from exc
        self.packetizer.greeted = True

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        super()._verify_key(host_key, sig)  # type: ignore[misc]
        self.host_proof = self.host_proof or (host_key, sig)

    def _parse_disconnect(self, m: Message) -> None:
        m.get_int()
        self.goodbye = m.get_text()[:SHOWN_CHARACTERS]

    def _parse_kex_init(self, m: Message) -> None:
        offered = self._really_parse_kex_init(Message(m.asbytes()))  # type: ignore[attr-defined]
        try:
            super()._parse_kex_init(m)  # type: ignore[misc]
        except IncompatiblePeer as exc:
            raise AlgorithmError(self._lacking(offered)) from exc

    def _lacking(self, offered: dict[str, list[str]]) -> tuple[Lack, ...]:
        """The kinds of which there is none in common, as paramiko compares them."""
        found = []
        for kind, keys, name in LISTS:
            for key in keys:
                theirs = tuple(each for each in offered[key] if each and not each.startswith(ANNOUNCED))
                if not set(theirs) & set(getattr(self, f"preferred_{name}")):
                    found.append(Lack(kind, tuple(map(_plain, theirs)), tuple(getattr(self, f"_preferred_{name}"))))
                    break
        return tuple(found)


def _plain(name: str) -> str:
    """An algorithm's name as RFC 4251 allows it: what a server says is input."""
    return re.sub(r"[^\x21-\x7e]", "?", name)[:64]
