"""The journal of a run: one event per line, written to the disk before it is reported."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import ValidationError

import harness
from harness.errors import ResultsError, RunnerError
from harness.measure.events import ADAPTER, SAID_THERE, Event
from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

BACK = 1 << 16


def check(said: dict[str, Any], device: str) -> Event:
    """Check a line that a runner wrote.

    Raises:
        RunnerError: if it is not of the protocol's shape.
    """
    if said.get("event") not in SAID_THERE:
        raise RunnerError(device, "measure", f"the journal has a line that is not an event of a job: {str(said)[:100]}")
    try:
        return ADAPTER.validate_python({**said, "device": device})
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"][:4])
        raise RunnerError(
            device, "measure", f"the journal has a line that does not follow the protocol: {place}: {first['msg']}"
        ) from exc


def check_cases(event: Event, cases: Collection[str], device: str) -> None:
    """Check that an event of a job names only the job's cases.

    Raises:
        RunnerError: if it names another one.
    """
    pair = getattr(event, "separate_processes", None) or ()
    named = {getattr(event, "case", None), *getattr(event, "cases", ()), *pair}
    if unknown := named - {None, *cases}:
        raise RunnerError(device, "measure", f"the journal names a case that the job does not have: {unknown.pop()!r:.100}")


class Journal:
    """The file, open for appending by one process; several threads may write. An incomplete last line, left by a crash, is removed first.

    Seeing a line to the disk takes milliseconds: those who wrote meanwhile share the next time, for with many devices they would queue.

    Raises:
        ResultsError: if it can't be opened, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock, self._sync = threading.Lock(), threading.Lock()
        self._written = self._synced = 0
        try:
            self._file = path.open("a+b")
        except OSError as exc:
            raise ResultsError(_unwritable(path, exc)) from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _trim(self._file)
        except BlockingIOError as exc:
            self._file.close()
            message = f"{path.parent}: another process is working on this run; wait until it has ended"
            raise ResultsError(message) from exc
        except OSError as exc:
            self._file.close()
            raise ResultsError(_unwritable(path, exc)) from exc

    def write(self, event: Event) -> None:
        """Append an event and write it to the disk.

        Raises:
            ResultsError: if the disk does not take it.
        """
        line = event.model_dump_json().encode() + b"\n"
        try:
            with self._lock:
                self._file.write(line)
                self._file.flush()
                self._written = mine = self._written + 1
            with self._sync:
                if self._synced < mine:
                    written = self._written
                    os.fsync(self._file.fileno())
                    self._synced = written
        except OSError as exc:
            raise ResultsError(_unwritable(self._path, exc)) from exc

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _unwritable(path: Path, exc: OSError) -> str:
    return f"{path}: can't be written: {exc.strerror}"


def _trim(file: BinaryIO) -> None:
    """Cut off a last line that has no end."""
    end = size = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - BACK)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end < size:
        file.truncate(end)


def _fault(exc: ValueError) -> str:
    """What is wrong with a line: an event of another version, or damage."""
    first = exc.errors()[0] if isinstance(exc, ValidationError) else None
    if first is None:
        return "damaged line"
    if first["type"] != "union_tag_invalid":
        place = ".".join(str(part) for part in first["loc"][:4])
        return f"damaged line, or one of another version of the harness: {sanitize(place)[:100]}: {first['msg']}"
    name = sanitize(str(first.get("ctx", {}).get("tag")))[:100]
    return f"an event '{name}', which quant-harness {harness.__version__} does not know: use the version that wrote this run"


def read(path: Path) -> Iterator[Event]:
    """Read a journal; a last line that a crash cut short is left out.

    Raises:
        ResultsError: if it can't be read, or a whole line is damaged.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith("\n"):
                    return
                try:
                    yield ADAPTER.validate_python(json.loads(line))
                except ValueError as exc:
                    message = f"{path}:{number}: {_fault(exc)}"
                    raise ResultsError(message) from exc
    except (OSError, UnicodeDecodeError) as exc:
        why = "it is not UTF-8 text" if isinstance(exc, UnicodeDecodeError) else exc.strerror
        message = f"{path}: can't be read: {why}; restore it, or measure again"
        raise ResultsError(message) from exc
