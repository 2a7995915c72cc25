"""The journal of a run: what came from each device, on disk before anything is reported; one event a line."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.errors import ResultsError, RunnerError
from harness.measure.events import ADAPTER, Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check(said: dict[str, Any], device: str) -> Event:
    """Check a line that a runner wrote.

    Raises:
        RunnerError: if it is not of the protocol's shape.
    """
    try:
        return ADAPTER.validate_python({**said, "device": device})
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"][:4])
        raise RunnerError(
            device, "measure", f"the journal has a line that is not of the protocol's shape: {place}: {first['msg']}"
        ) from exc


class Journal:
    """The file, open for appending; several threads may write."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._path = path

    def write(self, event: Event) -> None:
        """Append an event and see it to the disk.

        Raises:
            ResultsError: if the disk does not take it.
        """
        line = event.model_dump_json() + "\n"
        try:
            with self._lock:
                self._file.write(line)
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as exc:
            message = f"{self._path}: can't be written: {exc.strerror}"
            raise ResultsError(message) from exc

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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
                    message = f"{path}:{number}: damaged line"
                    raise ResultsError(message) from exc
    except (OSError, UnicodeDecodeError) as exc:
        message = f"{path}: can't be read: {exc}"
        raise ResultsError(message) from exc
