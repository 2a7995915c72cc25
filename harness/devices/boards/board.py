"""The boards that were started: each has a folder with a record, its keys and its console."""

from __future__ import annotations

import contextlib
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from harness import files
from harness.devices.boards import process, qemu
from harness.devices.boards.process import Process
from harness.devices.boards.qemu import Clock, Cpu
from harness.errors import SelectionError, UsageError
from harness.paths import cache
from harness.study.keys import Name
from harness.study.toml_file import nearest

RECORD = "board.json"
State = Literal["starting", "up", "dead", "stale"]


class Board(BaseModel):
    """A board's record.

    Attributes:
        port: on 127.0.0.1; None until the emulator runs, as are pid and started.
        started: as in :class:`Process`.
        registry: the devices.toml that has its entry.
        since: when ``up`` was asked for it.
        ready: whether it was reached and entered.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    cpu: Cpu
    clock: Clock
    image: Path
    registry: Path
    since: datetime
    port: int | None = None
    pid: int | None = None
    started: str | None = None
    ready: bool = False

    @property
    def process(self) -> Process | None:
        """The emulator, also if ``up`` was killed before it could note it."""
        if self.pid is not None and self.started is not None:
            return Process(self.pid, self.started)
        return process.of_pid_file(place(self.name) / qemu.PID)

    @property
    def state(self) -> State:
        """``up``, ``starting``, ``dead`` (its emulator ended), or ``stale`` (its number is another process's, or it never started)."""
        emulator = self.process
        if emulator is not None and emulator.is_alive:
            return "up" if self.ready else "starting"
        return "stale" if emulator is None or process.start_of(emulator.pid) is not None else "dead"

    def as_json(self) -> dict[str, Any]:
        """The board for programs."""
        return {**self.model_dump(mode="json", exclude={"started", "ready"}), "state": self.state}

    def save(self) -> None:
        """Write the record, whole or not at all."""
        files.write_text(place(self.name) / RECORD, self.model_dump_json(indent=1))


def check_name(name: str) -> str:
    """Check that a name can be a device's and a folder's.

    Raises:
        UsageError: if it can't.
    """
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as exc:
        raise UsageError(exc.errors()[0]["msg"].removeprefix("Value error, ")) from exc


def folder() -> Path:
    """Where boards have their folders."""
    return cache().absolute() / "boards" / "up"


def place(name: str) -> Path:
    """A board's own folder."""
    return folder() / name


def make_place(name: str) -> Path:
    """Make a board's own folder.

    Raises:
        UsageError: if a board of that name has it already.
    """
    while True:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            place(name).mkdir(mode=0o700)
        except FileExistsError as exc:
            message = f"'{name}' is the name of a board that is already up; choose another name, or: harness board down {name}"
            raise UsageError(message) from exc
        except FileNotFoundError:
            # The last other board was taken down between the two lines above.
            continue
        return place(name)


def remove_place(name: str) -> None:
    """Remove a board's own folder, and that of all boards when it was the last."""
    shutil.rmtree(place(name))
    with contextlib.suppress(OSError):
        folder().rmdir()


def load(name: str) -> Board | None:
    """Read a board's record, or None if it can't be read: ``up`` was killed before it wrote one."""
    try:
        return Board.model_validate_json((place(name) / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def names() -> list[str]:
    """List the boards that were started and not taken down."""
    return sorted(path.name for path in folder().iterdir() if path.is_dir()) if folder().is_dir() else []


def find(name: str) -> str:
    """Check that there is a board of that name.

    Raises:
        SelectionError: if there is none.
    """
    known = names()
    if name not in known:
        message = f"no board '{name}'; {nearest(name, known) if known else 'none is up'}"
        raise SelectionError(message)
    return name
