"""The SSH authentication protocol (RFC 4252) as a client: one request after another, each with its answer.

Paramiko signs with each key before it knows whether the server would take it, in the thread that reads the connection: a token would want a
touch for each key, and an agent that does not answer would end the connection.
"""

from __future__ import annotations

import threading
import time
from enum import Enum
from typing import TYPE_CHECKING

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import cMSG_USERAUTH_REQUEST
from paramiko.message import Message

from harness.devices.transports.certificates import SUFFIX
from harness.devices.transports.ssh_wire import kind, string

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_SECONDS = 0.1
# RFC 4252: what 60 means depends on the method that was asked for.
PASSWORD_EXPIRED = KEY_ACCEPTABLE = 60
RSA = "ssh-rsa"
MOST_SHOWN = 12
# A server may say as much as it likes.
MOST_SAID, LONGEST_SAID = 20, 1000


class Answer(Enum):
    """The result of a request."""

    ACCEPTED, PARTLY, REFUSED, KEY_ACCEPTABLE, PASSWORD_EXPIRED, PROVEN_BUT_REFUSED = range(6)


class SignatureError(Exception):
    """The server takes no signature that a key of this kind can make."""


class UserAuth(AuthHandler):
    """Authenticates a user to a server.

    Args:
        transport: the connection, after the key exchange.
        user: who wants in.

    Attributes:
        user: who wants in.
        methods: what may be tried next, as the server says.
        said: what the server said for people.
        proven: whether the server knows a key, and has its signature.
    """

    def __init__(self, transport: paramiko.Transport, user: str) -> None:
        super().__init__(transport)
        self._transport, self.user = transport, user
        self._answer: Answer | None = None
        self.methods: tuple[str, ...] = ()
        self.said: list[str] = []
        self._said_before = 0
        self.proven = False
        transport.auth_handler = self
        self._done = self.auth_event = threading.Event()
        self._request_auth()  # type: ignore[attr-defined]
        self._wait()

    def offer_nothing(self) -> Answer:
        """Ask without anything: the answer tells which methods there are."""
        return self._ask("none", b"")

    def offer_key(self, blob: bytes, sign: Callable[[bytes, str], bytes]) -> Answer:
        """Offer a public key or certificate, and prove it if the server would take it.

        Args:
            blob: the key, as SSH writes it.
            sign: takes what is signed and the algorithm, gives the signature; what it raises passes.

        Raises:
            SignatureError: if the server takes no signature of this kind of key.
        """
        name = self._algorithm(kind(blob))
        asked = self._ask("publickey", b"\0" + string(name.encode()) + string(blob))
        if asked is not Answer.KEY_ACCEPTABLE:
            return asked
        body = b"\1" + string(name.encode()) + string(blob)
        signed = string(self._transport.session_id or b"") + self._request("publickey", body)
        signature = sign(signed, name.removesuffix(SUFFIX))
        self.proven = True
        answer = self._ask("publickey", body + string(signature))
        self.proven = False
        return Answer.PROVEN_BUT_REFUSED if answer is Answer.REFUSED else answer

    def offer_password(self, password: str) -> Answer:
        """Offer a password, in the way that the server takes it."""
        if "password" not in self.methods and "keyboard-interactive" in self.methods:
            answers = [password]

            def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
                self._hear(title, instructions)
                if not answers:
                    # Only the first question is about this password; another may be about a new one.
                    self._hear(*(question for question, _ in prompts))
                return [answers.pop() if answers else "" for _ in prompts]

            self.interactive_handler = answer
            return self._ask("keyboard-interactive", string(b"") + string(b""))
        return self._ask("password", b"\0" + string(password.encode()))

    @property
    def last_said(self) -> list[str]:
        """What the server said for people since the last request."""
        return self.said[self._said_before :]

    def _signatures(self) -> list[str]:
        """The signatures that the server takes (RFC 8308); empty if it does not say."""
        said: dict[str, bytes] = getattr(self._transport, "server_extensions", {})
        return [name for name in said.get("server-sig-algs", b"").decode("ascii", "replace").split(",") if name]

    def _no_rsa(self) -> str:
        taken = self._signatures()
        kind = "ed25519" if "ssh-ed25519" in taken else "ecdsa"
        return f"the server does not accept RSA keys with SHA-2; it accepts {', '.join(taken[:MOST_SHOWN])}: make a key with 'ssh-keygen -t {kind}'"

    def _request(self, method: str, body: bytes) -> bytes:
        start = cMSG_USERAUTH_REQUEST + string(self.user.encode()) + string(b"ssh-connection")
        return bytes(start + string(method.encode()) + body)

    def _ask(self, method: str, body: bytes) -> Answer:
        self.auth_method = method
        self._answer = None
        self._said_before = len(self.said)
        self._done = self.auth_event = threading.Event()
        with self._transport.lock:
            self._transport._send_message(Message(self._request(method, body)))  # type: ignore[attr-defined]  # noqa: SLF001
        self._wait()
        if self.is_authenticated():
            return Answer.ACCEPTED
        return self._answer or Answer.REFUSED

    def _wait(self) -> None:
        """Wait for the answer.

        Raises:
            AuthenticationException: if none comes, in paramiko's own words.
            Exception: what ended the connection.
        """
        deadline = time.monotonic() + (self._transport.auth_timeout or 0.0)
        while not self._done.wait(POLL_SECONDS):
            if time.monotonic() >= deadline and self._transport.is_active():
                message = "Authentication timeout."
                raise paramiko.AuthenticationException(message)
            if not self._transport.is_active():
                break
        if not self._transport.is_active():
            fault = self._transport.get_exception()
            if fault is not None and not isinstance(fault, EOFError):
                raise fault
            message = "Authentication failed: transport shut down or saw EOF"
            raise paramiko.AuthenticationException(message)

    def _algorithm(self, name: str) -> str:
        """The signature's algorithm for a type of key.

        Raises:
            SignatureError: if there is none.
        """
        plain = name.removesuffix(SUFFIX)
        if plain != RSA:
            return name
        try:
            chosen: str = self._finalize_pubkey_algorithm(RSA)  # type: ignore[attr-defined]
        except paramiko.SSHException as exc:
            raise SignatureError(self._no_rsa()) from exc
        return chosen + name.removeprefix(RSA)

    def _hear(self, *words: str) -> None:
        """Keep what is for people."""
        heard = [each[:LONGEST_SAID] for each in words if each.strip()]
        self.said += heard[: MOST_SAID - len(self.said)]

    # Called by paramiko's thread

    @property
    def _client_handler_table(self) -> dict[int, Callable[[Message], None]]:
        table: dict[int, Callable[[Message], None]] = dict(super()._client_handler_table)  # type: ignore[misc]
        return table | {KEY_ACCEPTABLE: self._parse_60}

    def _parse_service_accept(self, m: Message) -> None:
        if m.get_text() == "ssh-userauth":
            self._done.set()

    def _parse_userauth_failure(self, m: Message) -> None:
        self.methods = tuple(m.get_list())
        self._answer = Answer.PARTLY if m.get_boolean() else Answer.REFUSED
        self._done.set()

    def _parse_userauth_banner(self, m: Message) -> None:
        self._hear(m.get_text())

    def _parse_60(self, m: Message) -> None:
        if self.auth_method == "keyboard-interactive":
            super()._parse_userauth_info_request(m)  # type: ignore[misc]
            return
        if self.auth_method == "password":
            self._hear(m.get_text())
        self._answer = Answer.PASSWORD_EXPIRED if self.auth_method == "password" else Answer.KEY_ACCEPTABLE
        self._done.set()
