"""Conversations with a device's agent: each runs one of its commands, writes to it, and checks its replies.

What a device says is input: every line is bounded by the transport and read as JSON, and nothing of it reaches a shell.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from harness.devices import program, startup
from harness.devices.transports.connect import connect
from harness.errors import RunnerError, TransferError
from harness.text import sanitize_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.devices.device import Device
    from harness.devices.transports.transport import Channel


class Agent:
    """The agent of a device, over a transport that is open until :meth:`close`.

    Raises:
        DeviceError: if the device can't be reached.

    Attributes:
        python: the Python that runs the agent.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.python = device.python or (sys.executable if device.transport == "local" else "python3")
        self._settings = program.settings(device)
        self._transport = connect(device)

    def close(self) -> None:
        """Close the transport and every conversation."""
        self._transport.close()

    @contextlib.contextmanager
    def run(self, step: str, *words: str) -> Iterator[Conversation]:
        """Run a command; it ends with the block.

        Args:
            step: what it is for, named in errors.
            words: the command and its arguments.

        Raises:
            DeviceError: if the agent does not start, or the connection is lost.
        """
        source = program.agent(words[0], self._settings)
        command = startup.command(self.python, source, words)
        channel = self._transport.open(command, step)
        try:
            startup.wait(channel, startup.first_line(command), self.python, self.device, step)
            talk = Conversation(self.device, self.python, channel, step)
            try:
                channel.write(source)
            except RunnerError:
                # It ended before it read all: how it ended says more than that.
                next(talk.replies, None)
                raise
            yield talk
        finally:
            channel.close()

    def ask(self, step: str, words: list[str], events: list[str], request: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Run a command that gives one reply, which must be one of the given events.

        Raises:
            DeviceError: as :meth:`run` and :meth:`Conversation.expect`.
        """
        with self.run(step, *words) as talk:
            if request is not None:
                talk.say(request)
            talk.end()
            return talk.expect(*events)


class Conversation:
    """One command of the agent, while it runs.

    Attributes:
        replies: each reply as an object, with its length in bytes, until the command ends; asking raises a :class:`RunnerError`
            (:class:`TransferError` while files are pushed) for a reply that is an error or no line of the protocol.
    """

    def __init__(self, device: Device, python: str, channel: Channel, step: str) -> None:
        self._device, self._python, self._channel, self._step = device, python, channel, step
        self.replies = self._read()

    @property
    def device(self) -> str:
        """The device's name."""
        return self._device.name

    def write(self, data: bytes) -> None:
        """Write to the command."""
        self._channel.write(data)

    def say(self, message: Mapping[str, object]) -> None:
        """Write an object as a line of JSON."""
        self.write(json.dumps(message).encode() + b"\n")

    def end(self) -> None:
        """Close the command's input."""
        self._channel.end()

    def expect(self, *events: str) -> dict[str, Any]:
        """The next reply, which must be one of the given events.

        Raises:
            RunnerError: if it is another, or there is none.
        """
        reply = next((reply for reply, _ in self.replies), None)
        if reply is None or reply["event"] not in events:
            raise RunnerError(
                self._device.name, self._step, f"expected '{' or '.join(events)}' from the agent, got {str(reply)[:200]}"
            )
        return reply

    def _read(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the replies, without the agent's keepalives."""
        heard = False
        for line in self._channel.lines():
            reply = _parse(line)
            if reply is None:
                reason = f"the agent sent a message that does not follow the protocol: {line[:100]!r}"
                raise RunnerError(self._device.name, self._step, reason)
            heard = True
            if reply["event"] == "error":
                raise self._refusal(str(reply.get("message"))[:2000], place=reply.get("kind") == "PlaceError")
            if reply["event"] != "alive":
                yield reply, len(line)
        if not heard:
            log = self._channel.close()
            last = log.splitlines()[-1:] or ["no message"]
            raise self._refusal(log if startup.standard_module(log) else f"the agent ended without an answer: {last[0][:300]}")

    def _refusal(self, message: str, *, place: bool = False) -> RunnerError | TransferError:
        """The error for what the agent reported, with the next step if the store's folder can't be used."""
        kind = TransferError if self._step == "push" else RunnerError
        if module := startup.standard_module(message):
            message = startup.without_module(module, self._python, self._device.name)
        if place:
            message += f'; set store = "/a/folder" for [{self._device.name}] in devices.toml to one that the account can use'
        return kind(self._device.name, self._step, message)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parse one line of the protocol; None if it is not one. NaN and Infinity are not JSON."""

    def refuse(constant: str) -> None:
        message = f"{constant} is not JSON"
        raise ValueError(message)

    try:
        # Readable from here on: what a device says is shown to people sooner or later.
        reply = sanitize_all(json.loads(line, parse_constant=refuse))
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) and isinstance(reply.get("event"), str) else None
