"""Standard streams whose loss does not change what a command does.

A reader that left, a disk that is full or a descriptor that was closed is remembered, and what is written later is dropped. Characters
that the terminal's encoding lacks are written as others.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

STREAMS = (1, 2)
ERRORS = "harness.nearest"
# What tables and messages hold beyond ASCII, for terminals that have no more.
NEAREST = {
    "×": "x", "–": "-", "—": "-", "−": "-", "±": "+/-", "→": "->", "←": "<-", "…": "...", "·": "*", "°": "deg ", "µ": "u", "✓": "ok", "✗": "x",  # noqa: RUF001
    "≤": "<=", "≥": ">=", "≠": "!=", "‘": "'", "’": "'", "“": '"', "”": '"', "\xa0": " ", "─": "-", "━": "-", "│": "|", "█": "#",  # noqa: RUF001
}  # fmt: skip


class Descriptor(io.RawIOBase):
    """A file descriptor for output. After the first fault, it drops everything that is written.

    Attributes:
        fault: why it can't be written any more; None as long as it can.
    """

    def __init__(self, number: int, fault: OSError | None = None) -> None:
        self._number, self.fault = number, fault

    def fileno(self) -> int:
        """The descriptor's number."""
        return self._number

    def writable(self) -> bool:
        """Whether it can be written: always."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._number)

    def write(self, data: ReadableBuffer) -> int:
        """Write some bytes; gives how many, which are all once it is lost."""
        view = memoryview(data)
        while self.fault is None:
            try:
                return os.write(self._number, view)
            except BlockingIOError:
                select.select([], [self._number], [])
            except OSError as exc:
                self.fault = exc
                # Libraries and children write there too; they meet nothing that fails.
                with contextlib.suppress(OSError), Path(os.devnull).open("wb") as null:
                    os.dup2(null.fileno(), self._number)
        return view.nbytes


class Stream(io.TextIOWrapper):
    """Text on a :class:`Descriptor`."""

    def __init__(self, descriptor: Descriptor, encoding: str) -> None:
        # Typer takes an ASCII stream for a mistake, and writes UTF-8 past it: so it is not called one.
        self._is_ascii = codecs.lookup(encoding).name == "ascii"
        is_line_buffered = descriptor.isatty() or descriptor.fileno() == STREAMS[1]
        name = "utf-8" if self._is_ascii else encoding
        super().__init__(io.BufferedWriter(descriptor), encoding=name, errors=ERRORS, line_buffering=is_line_buffered)
        self.descriptor = descriptor

    def write(self, text: str) -> int:
        """Write a text, as near as the encoding allows."""
        return super().write(text.encode("ascii", ERRORS).decode("ascii") if self._is_ascii else text)


def secure() -> None:
    """Open the standard descriptors that are closed, and put streams over them that can be lost."""
    faults: dict[int, OSError] = {}
    for number in (0, *STREAMS):
        try:
            os.fstat(number)
        except OSError as exc:
            # Else the next file that is opened would get its number, and what we print would be written into that file.
            faults[number] = exc
            # For children too, whose files would get the number as well.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    codecs.register_error(ERRORS, _nearest)
    for number, name in zip(STREAMS, ("stdout", "stderr"), strict=True):
        before = getattr(sys, name)
        encoding = getattr(before, "encoding", None) or "utf-8"
        setattr(sys, name, Stream(Descriptor(number, faults.get(number)), encoding))


def keep() -> Callable[[], None]:
    """Remember the streams as they are now.

    While the tools of onnxruntime work, their prints are dropped (harness/quantize/quiet.py). A signal at the very end of that can leave
    the replaced streams in place for as long as its exception is handled; a message about the signal would be dropped too.

    Returns:
        A function that puts the streams back.
    """
    own = sys.stdout, sys.stderr

    def put_back() -> None:
        sys.stdout, sys.stderr = own

    return put_back


def say(message: str) -> None:
    """Write a message on standard error, each line with the program's name."""
    from harness.text import sanitize

    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("".join(f"harness: {line}\n" for line in sanitize(message).splitlines()))
        sys.stderr.flush()


def flush() -> None:
    """Flush the output."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def lost() -> OSError | None:
    """Why standard output could not be written; None if it could, or if its reader closed it."""
    if not isinstance(sys.stdout, Stream):
        return None
    sys.stdout.flush()
    fault = sys.stdout.descriptor.fault
    return None if fault is None or fault.errno == errno.EPIPE else fault


def finish(code: int) -> int:
    """Flush the output, report a failure to do so, and return the exit code.

    A command that judges, measures or makes something has the code of what it did. One that only shows something has failed if it could
    not be shown.
    """
    fault = lost()
    if fault is not None:
        say(f"the output could not be written: {fault.strerror}")
        # Without it nothing was run: its import failed, or only help was asked for.
        command = sys.modules.get("harness.cli.command")
        if code == Exit.PASSED and (command is None or command.only_shows()):
            code = Exit.USAGE
    flush()
    return code


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """The replacement for characters that the encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - registered for encoding alone
    found = error.object[error.start : error.end]
    return "".join(NEAREST.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in found), error.end
