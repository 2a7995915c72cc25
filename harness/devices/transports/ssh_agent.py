"""The SSH agent's protocol (draft-ietf-sshm-ssh-agent), as far as a login needs it: which keys it holds, and signatures.

Paramiko's client has no timeout anywhere, and knows no agent but that of ``SSH_AUTH_SOCK``; here each request has a deadline.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness import paths
from harness.devices.transports.ssh_wire import Reader, string

LIST, LISTED, SIGN, SIGNED, EXTENSION = 11, 12, 13, 14, 27
BIND = b"session-bind@openssh.com"
# What OpenSSH's own client takes at most.
LARGEST_ANSWER = 256 * 1024
RSA_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
RETRY_SECONDS = 0.05
SILENT = "does not answer"
HUNG_UP = (EOFError, BrokenPipeError, ConnectionResetError)
# An agent that did not answer is not asked again for this long: each connection would wait for it anew.
FORGET_SECONDS = 60.0
ENVIRONMENT = "SSH_AUTH_SOCK"
_silent: dict[str, tuple[float, str]] = {}


class AgentError(Exception):
    """The agent can't be used; says which and why."""


@dataclass(frozen=True)
class AgentSession:
    """Which server a login is for, and its proof: keys that are bound to hosts ('ssh-add -h') need to know.

    Attributes:
        host_key: the key or certificate that the server showed.
        identifier: the session's, which the server signed.
        signature: with which it did.
    """

    host_key: bytes
    identifier: bytes
    signature: bytes


@dataclass(frozen=True)
class AgentKey:
    """A key that an agent holds.

    Attributes:
        blob: its public part, or a certificate.
        comment: what the user called it.
    """

    blob: bytes
    comment: str


def socket_of(setting: str | None) -> str | None:
    """Where the agent listens.

    Args:
        setting: what IdentityAgent of ssh_config says; None is nothing.

    Returns:
        A path; None if there is no agent to ask.

    Raises:
        UsageError: if the path begins with ``~`` and there is no such home directory.
    """
    if setting is None or setting == ENVIRONMENT:
        return os.environ.get(ENVIRONMENT) or None
    if setting.lower() == "none":
        return None
    if setting.startswith("$"):
        return os.environ.get(setting[1:].strip("{}")) or None
    return str(paths.expanded(Path(setting)))


class SshAgent:
    """An agent.

    Args:
        path: where it listens.
        seconds: how long connecting and each answer may take.
        setting: whether ssh_config's IdentityAgent names it, not the environment.
        session: what it is told of the server; None is nothing.
    """

    def __init__(self, path: str, seconds: float, *, setting: bool, session: AgentSession | None = None) -> None:
        self.path, self._session = path, session
        self._seconds = seconds
        self._advice = "correct IdentityAgent in ssh_config" if setting else f"unset {ENVIRONMENT}"
        self._socket: socket.socket | None = None
        # Once it failed, it is not asked again.
        self.fault: str | None = None

    def keys(self) -> tuple[AgentKey, ...]:
        """What it holds.

        Raises:
            AgentError: if it can't be asked, or says no list.
        """
        since, fault = _silent.get(self.path, (0.0, ""))
        if fault and time.monotonic() - since < FORGET_SECONDS:
            self.fault = fault
            raise AgentError(fault)
        try:
            self._bind()
            answer = self._ask(bytes([LIST]), self._seconds, SILENT)
        except AgentError as exc:
            if isinstance(exc.__cause__, TimeoutError):
                _silent[self.path] = (time.monotonic(), str(exc))
            raise
        try:
            reader = Reader(answer)
            if (kind := reader.take(1)[0]) != LISTED:
                self._give_up(f"does not list its keys (it answered {kind})")
            found = tuple(AgentKey(reader.string(), reader.text()) for _ in range(min(reader.number(), LARGEST_ANSWER)))
            reader.end()
        except ValueError as exc:
            self._give_up(f"does not list its keys ({exc})", exc)
        return found

    def sign(self, blob: bytes, data: bytes, algorithm: str, seconds: float) -> bytes:
        """Let it sign.

        Args:
            blob: the key, as it named it.
            data: what is signed.
            algorithm: the signature's, which tells RSA's hash.
            seconds: how long it may take: the user may have to confirm it, or to touch a token.

        Returns:
            The signature, as SSH writes it.

        Raises:
            AgentError: if it does not.
        """
        request = bytes([SIGN]) + string(blob) + string(data) + struct.pack(">I", RSA_FLAGS.get(algorithm, 0))
        answer = self._ask(request, seconds, "did not sign (the key may wait for a touch, a PIN or a confirmation)")
        try:
            reader = Reader(answer)
            if reader.take(1)[0] != SIGNED:
                message = f"the SSH agent at {self.path} refuses to sign with this key: is the agent locked, or was the confirmation declined?"
                raise AgentError(message)
            signature = reader.string()
            reader.end()
        except ValueError as exc:
            self._give_up(f"did not give a signature ({exc})", exc)
        return signature

    def close(self) -> None:
        """Close the connection to it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _bind(self) -> None:
        """Tell it of the server; an agent that knows no extensions says so, or hangs up."""
        if self._session is None:
            return
        parts = (self._session.host_key, self._session.identifier, self._session.signature)
        try:
            self._ask(bytes([EXTENSION]) + string(BIND) + b"".join(map(string, parts)) + b"\0", self._seconds, SILENT)
        except AgentError as exc:
            if not isinstance(exc.__cause__, HUNG_UP):
                raise
            self.fault = None

    def _ask(self, request: bytes, seconds: float, silent: str) -> bytes:
        """Send a request and wait for the whole answer."""
        if self.fault is not None:
            raise AgentError(self.fault)
        deadline = time.monotonic() + seconds
        try:
            if self._socket is None:
                self._socket = _connect(self.path, deadline)
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._socket.sendall(string(request))
            size = Reader(self._receive(4, deadline)).number()
            if not 0 < size <= LARGEST_ANSWER:
                self._give_up(f"does not speak the agent's protocol: it announced an answer of {size} bytes")
            return self._receive(size, deadline)
        except TimeoutError as exc:
            self._give_up(f"{silent} within {seconds:g} s", exc)
        except HUNG_UP as exc:
            self._give_up("hung up before it answered", exc)
        except OSError as exc:
            self._give_up(f"can't be reached ({exc.strerror or exc})", exc)

    def _receive(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        assert self._socket is not None  # noqa: S101 - that's where it comes from
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            more = self._socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def _give_up(self, what: str, cause: Exception | None = None) -> NoReturn:
        """Ask it no more."""
        with contextlib.suppress(OSError):
            self.close()
        self.fault = f"the SSH agent at {self.path} {what}: {self._advice}, or set identity_file"
        raise AgentError(self.fault) from cause


def _connect(path: str, deadline: float) -> socket.socket:
    """Connect before the deadline, also while others wait in the agent's queue."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            connection.connect(path)
        except BlockingIOError:
            # Its queue is full; a Unix socket does not wait for a place by itself.
            time.sleep(min(RETRY_SECONDS, left))
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    connection.close()
    raise TimeoutError
