"""A board that says what a test puts in its mouth."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from harness.devices import registry, startup
from harness.devices.device import Device
from harness.devices.link import Link
from harness.devices.transports.local import LocalTransport

NASTY = "\x1b[2J\x1b]0;owned\x07 <script>alert(1)</script> | **x** [a](javascript:1) ]]> \u202e\x9b31m \x00 &amp;\nsecond"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ufffe\uffff\ud800-\udfff]")
# What a board says to a command: lines to put in the place of the agent's own, one by one.
Twist = Callable[[str, bytes], Iterable[bytes]]


class Board:
    """This machine, but each line that its agent says is twisted; a test sets how."""

    twist: Twist

    def __init__(self, device: Device) -> None:
        self.real = LocalTransport(device)

    def open(self, words: Sequence[str], step: str) -> Any:
        channel = self.real.open(words, step)
        command, twist, lines = words[4], type(self).twist, channel.lines()
        # It has started as any other: the first line is its own.
        first = list(takes(lines, startup.first_line(words)))
        twisted = itertools.chain(first, (said for line in lines for said in twist(command, line)))
        channel.lines = lambda: twisted  # type: ignore[method-assign]
        return channel

    def close(self) -> None:
        self.real.close()


def takes(lines: Iterator[bytes], last: bytes) -> Iterator[bytes]:
    """The lines up to one."""
    for line in lines:
        yield line
        if line.strip() == last:
            return


def say(**said: object) -> bytes:
    return json.dumps(said).encode() + b"\n"


def saying(*lines: bytes, to: str = "follow", ahead: str = "begin") -> Twist:
    """Put lines behind the one of an event."""

    def twist(command: str, line: bytes) -> Iterator[bytes]:
        yield line
        if command == to and f'"event": "{ahead}"'.encode() in line:
            yield from lines

    return twist


def opened() -> Link:
    """A way to it."""
    return Link(registry.load().get("local"))
