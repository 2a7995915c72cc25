"""The journal of a run: what came from each device, on disk before anything is reported.

One JSON object a line, each with ``device`` and ``event``. Most come from the runner (runners/PROTOCOL.md); ``connected``, ``pushed``,
``fidelity`` and ``device_failed`` are the controller's own.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.devices.facts import Facts
from harness.errors import ResultsError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Count = Annotated[int, Field(ge=0, lt=2**63)]
Nanoseconds = Count
Message = Annotated[str, Field(max_length=4000)]
Id = Annotated[str, Field(max_length=100)]


class Line(BaseModel):
    """What every line has."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    device: Id


class Connected(Line):
    """The device answered and showed its facts."""

    event: Literal["connected"] = "connected"
    facts: Facts


class Pushed(Line):
    """The files are there."""

    event: Literal["pushed"] = "pushed"
    files: Count
    sent_bytes: Count
    seconds: float


class Begin(Line):
    """The runner began; facts once more, from right before measuring."""

    event: Literal["begin"] = "begin"
    time: float
    facts: Facts


class Outputs(BaseModel):
    """A file of outputs on the device."""

    model_config = ConfigDict(frozen=True)

    name: Id
    size: Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Evaluated(Line):
    """A case computed the evaluation inputs."""

    event: Literal["evaluated"] = "evaluated"
    case: Id
    outputs: Outputs
    load_ns: Nanoseconds
    seconds: float


class Block(Line):
    """A case's part of a round: one fresh process."""

    event: Literal["block"] = "block"
    case: Id
    round: Count
    load_ns: Nanoseconds
    first_ns: Nanoseconds
    warmup: Count
    ns: Annotated[list[Nanoseconds], Field(min_length=1, max_length=10_000_000)]
    cpu_ns: Nanoseconds
    wall_ns: Nanoseconds
    involuntary_switches: Count
    peak_bytes: Count | None = None


class Counted(Line):
    """A case's instructions, counted in one fresh process; one number for each iteration."""

    event: Literal["counted"] = "counted"
    case: Id
    round: Count
    counter: Literal["icount", "perf"]
    instructions: Annotated[list[Count], Field(min_length=1, max_length=10_000)]
    cycles: Annotated[list[Count], Field(max_length=10_000)] | None = None
    load_ns: Nanoseconds
    peak_bytes: Count | None = None


class Failed(Line):
    """A case could not be loaded or run, or its process died; round is None in the evaluation."""

    event: Literal["failed"] = "failed"
    case: Id
    round: Count | None = None
    kind: Id
    message: Message


class Round(Line):
    """A round is over."""

    event: Literal["round"] = "round"
    round: Count
    elapsed: float


class End(Line):
    """The runner ended."""

    event: Literal["end"] = "end"
    reason: Literal["rounds", "max_time", "stopped"]


class FidelityLine(Line):
    """A case's outputs compared with the reference."""

    event: Literal["fidelity"] = "fidelity"
    case: Id
    mse: float | None = None
    max_error: float | None = None
    sqnr_db: float | None = None
    identical: bool = False
    samples: Count | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    accuracy: float | None = None
    reason: Message | None = None


class DeviceFailed(Line):
    """The device, or the way to it, failed."""

    event: Literal["device_failed"] = "device_failed"
    step: Id
    reason: Message


Event = Connected | Pushed | Begin | Evaluated | Block | Counted | Failed | Round | End | FidelityLine | DeviceFailed
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def check(said: dict[str, Any], device: str) -> Event:
    """Check a line that a runner wrote.

    Raises:
        RunnerError: if it is not of the protocol's shape.
    """
    try:
        return _ADAPTER.validate_python({**said, "device": device})
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
                    yield _ADAPTER.validate_python(json.loads(line))
                except ValueError as exc:
                    message = f"{path}:{number}: damaged line"
                    raise ResultsError(message) from exc
    except (OSError, UnicodeDecodeError) as exc:
        message = f"{path}: can't be read: {exc}"
        raise ResultsError(message) from exc
