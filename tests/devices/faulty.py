"""A transport to this machine that raises what a test asks for, at the call that a test asks for."""

from __future__ import annotations

import binascii
import errno
import socket
import struct
from typing import TYPE_CHECKING, ClassVar

import paramiko
from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from pydantic import TypeAdapter, ValidationError

from harness.devices import program
from harness.devices.device import Device
from harness.devices.transports.local import LocalTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.devices.transports.local import LocalChannel

CALLS = ("connect", "open", "write", "end", "lines", "close channel", "close")
HERE = "tests.devices.faulty:FaultyTransport"


class Panic(BaseException):
    """What a library that is written in Rust raises when it panics."""


class Mute(Exception):  # noqa: N818 - it has no words
    """An exception whose text can't be had."""

    def __str__(self) -> str:
        raise ValueError


def invalid() -> ValidationError:
    try:
        TypeAdapter(int).validate_python("x")
    except ValidationError as exc:
        return exc
    raise AssertionError


# One maker for each kind: an exception must not be raised twice.
KINDS: dict[str, Callable[[], BaseException]] = {
    "OSError": lambda: OSError(errno.EIO, "Input/output error"),
    "BrokenPipeError": BrokenPipeError,
    "ConnectionResetError": lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "TimeoutError": TimeoutError,
    "gaierror": lambda: socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "EOFError": EOFError,
    "ValueError": lambda: ValueError("embedded null byte"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "binascii.Error": lambda: binascii.Error("Incorrect padding"),
    "KeyError": lambda: KeyError("ssh-nonsense"),
    "IndexError": lambda: IndexError("list index out of range"),
    "TypeError": lambda: TypeError("'NoneType' object is not subscriptable"),
    "AttributeError": lambda: AttributeError("'NoneType' object has no attribute 'is_active'"),
    "AssertionError": AssertionError,
    "struct.error": lambda: struct.error("unpack requires a buffer of 4 bytes"),
    "RecursionError": lambda: RecursionError("maximum recursion depth exceeded"),
    "MemoryError": MemoryError,
    "ImportError": lambda: ImportError("No module named '_gssapi'"),
    "OverflowError": lambda: OverflowError("timestamp too large to convert to C _PyTime_t"),
    "NotImplementedError": NotImplementedError,
    "StopIteration": StopIteration,
    "SSHException": lambda: paramiko.SSHException("Key-exchange timed out waiting for key negotiation"),
    "AuthenticationException": lambda: paramiko.AuthenticationException("Authentication failed."),
    "ChannelException": lambda: paramiko.ChannelException(2, "Connect failed"),
    "UnsupportedAlgorithm": lambda: UnsupportedAlgorithm("ed25519 is not supported by this version of OpenSSL."),
    "InvalidKey": lambda: InvalidKey("Keys do not match."),
    "ValidationError": invalid,
    "a text that the terminal would obey": lambda: RuntimeError("\x1b[2J\x00\udcff[red]x[/red]" + "long " * 5000),
    "a text that can't be had": Mute,
    "SystemExit": lambda: SystemExit(0),
    "a panic": lambda: Panic("called `Option::unwrap()` on a `None` value"),
}


class FaultyTransport:
    """This machine, under the name of a device that is reached over SSH; a test sets what it raises, and at which call."""

    call: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    # The agent's command that it fails at; others go well. None is whichever comes first.
    command: ClassVar[str | None] = None
    made: ClassVar[set[str]] = set()

    @classmethod
    def fail(cls, call: str, kind: str, command: str | None = None) -> None:
        cls.call, cls.kind, cls.command, cls.made = call, kind, command, set()

    @classmethod
    def on(cls, call: str, command: str | None = None) -> None:
        """Take note of a call, and raise if it is its turn."""
        cls.made.add(call)
        if call == cls.call and cls.command in {None, command}:
            make = KINDS[cls.kind]
            raise make()

    def __init__(self, device: Device) -> None:
        self.on("connect")
        self.real = LocalTransport(device)

    def open(self, words: Sequence[str], step: str) -> FaultyChannel:
        command = next(word for word in words if word in program.commands())
        self.on("open", command)
        return FaultyChannel(self.real.open(words, step), command)

    def close(self) -> None:
        self.real.close()
        self.on("close")


class FaultyChannel:
    """A channel of it."""

    def __init__(self, real: LocalChannel, command: str) -> None:
        self.real, self.command = real, command

    def write(self, data: bytes) -> None:
        FaultyTransport.on("write", self.command)
        self.real.write(data)

    @property
    def status(self) -> int | None:
        return self.real.status

    def patience(self, seconds: float | None) -> None:
        self.real.patience(seconds)

    def end(self) -> None:
        self.real.end()
        FaultyTransport.on("end", self.command)

    def lines(self) -> Iterator[bytes]:
        for line in self.real.lines():
            FaultyTransport.on("lines", self.command)
            yield line

    def close(self) -> str:
        words = self.real.close()
        FaultyTransport.on("close channel", self.command)
        return words
