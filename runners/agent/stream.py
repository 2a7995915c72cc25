"""What a sender writes: lines, and counted bytes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys

import store

THINKING_SECONDS = 300.0
LINE_BUFFER = 1 << 16
# What the pipe may hold; F_SETPIPE_SZ of fcntl(2), which Python names from 3.10 on.
PIPE_SIZE, SET_PIPE_SIZE = 1 << 20, 1031


class Stream:
    """Standard input, as lines and as counted bytes, with a limit on silence."""

    def __init__(self) -> None:
        self.descriptor = sys.stdin.fileno()
        self.poll = select.poll()
        self.poll.register(self.descriptor)
        # sshd hands over 32 KiB at a time: what fits into the pipe need not wait for this process to be woken.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.descriptor, SET_PIPE_SIZE, PIPE_SIZE)
        # Reading the program from there, Python may have read ahead.
        self.rest = sys.stdin.buffer.read(len(sys.stdin.buffer.peek()))  # type: ignore[union-attr]

    def more(self, buffer: memoryview, seconds: float) -> int:
        """Put some bytes into a buffer; gives how many, none at the end."""
        if self.rest:
            count = min(len(self.rest), len(buffer))
            buffer[:count] = self.rest[:count]
            self.rest = self.rest[count:]
            return count
        if not self.poll.poll(1000 * seconds):
            raise EOFError("the sender said nothing for %g s" % seconds)
        return os.readv(self.descriptor, [buffer])

    def line(self) -> bytes:
        """A line without its end; empty at the end of the stream."""
        found = []
        buffer = memoryview(bytearray(LINE_BUFFER))
        while True:
            data = bytes(buffer[: self.more(buffer, THINKING_SECONDS)])
            line, newline, rest = data.partition(b"\n")
            self.rest = rest + self.rest
            found.append(line)
            if newline or not data:
                return b"".join(found)
            if sum(map(len, found)) > store.LINE_LIMIT:
                raise ValueError("a line of more than %d bytes" % store.LINE_LIMIT)
