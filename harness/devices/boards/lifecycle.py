"""Start a board, and stop it and remove everything that belongs to it."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.devices import registry as registries
from harness.devices import registry_file
from harness.devices.boards import board as boards
from harness.devices.boards import qemu, seed
from harness.devices.boards.board import Board
from harness.devices.boards.prerequisites import check_start
from harness.devices.device import Device
from harness.devices.registry import Registry
from harness.devices.transports.connect import connect
from harness.errors import ConnectError, DeviceError, RegistryError, SelectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.devices.boards.image import Image
    from harness.devices.boards.process import Process
    from harness.devices.boards.qemu import Clock, Cpu

USER = "board"
PATIENCE_SECONDS = 5.0
GREETING_SECONDS = 3.0
PAUSE_SECONDS = 0.3
TAIL_LINES = 15


def up(name: str, cpu: Cpu, clock: Clock, image: Image, registry: Path | None, patience: float) -> Board:
    """Start a board, wait until it can be logged in to, and enter it in devices.toml.

    Args:
        name: of the board and of its entry.
        cpu: the core that is emulated.
        clock: what the board's clock counts.
        image: what it boots.
        registry: the devices.toml; None means the one that counts, or a new one here.
        patience: seconds until it must answer.

    Raises:
        UsageError: if the name is taken or the emulator is missing; nothing was started.
        DeviceError: if it does not start; nothing is left of it.
    """
    boards.check_name(name)
    emulator = check_start()
    file = (registries.locate(registry) or Path("devices.toml")).absolute()
    known = registries.load(file) if file.exists() else Registry(file, {})
    if name in known.entries or name == registries.LOCAL:
        dead = (found := boards.load(name)) is not None and found.state != "up"
        way = (
            f"it is a board whose emulator has ended; to remove it: harness board down {name}"
            if dead
            else "choose another, or remove that entry"
        )
        message = (
            f"'{name}' is taken: {file} has a device of that name; {way}"
            if name != registries.LOCAL
            else f"'{name}' is the name of this machine: choose another name"
        )
        raise RegistryError(message)
    place = boards.make_place(name)
    try:
        record = Board(name=name, cpu=cpu, clock=clock, image=image.folder, registry=file, since=datetime.now(UTC))
        record.save()
        host_key = seed.plant(name, image, place)
        port = qemu.start(name, emulator, image, place, cpu, clock)
        running = _running(record, place)
        record = record.model_copy(update={"port": port, "pid": running.pid, "started": running.started})
        record.save()
        device = Device(
            name=name, host="127.0.0.1", port=port, user=USER, identity_file=place / seed.IDENTITY, host_key=host_key,
            tags=["arm64", cpu], emulated=clock,
        )  # fmt: skip
        _wait(device, running, place, patience)
        registry_file.write_device(file, device)
        record = record.model_copy(update={"ready": True})
        record.save()
    except BaseException:
        # Somebody may have taken it down meanwhile; who is impatient must not leave half of it.
        with _patiently(), contextlib.suppress(SelectionError):
            down(name)
        raise
    return record


def down(name: str) -> None:
    """End a board and remove its entry, its keys and its folder; one that is dead already, too.

    Raises:
        SelectionError: if there is no board of that name.
        DeviceError: if its emulator does not end.
    """
    place = boards.place(boards.find(name))
    record = boards.load(name)
    # Its disk ends with the emulator, so there is nothing to shut down in order.
    emulator = record.process if record is not None else None
    if emulator is not None and not emulator.stop(PATIENCE_SECONDS):
        raise DeviceError(name, "down", f"the emulator (process {emulator.pid}) does not end")
    if record is not None:
        try:
            registry_file.remove_device(record.registry, name, identity_file=str(place / seed.IDENTITY))
        except RegistryError as exc:
            message = f"{exc}\nthe board has ended, but its entry is still in the file: correct the file, then repeat: harness board down {name}"
            raise RegistryError(message) from exc
    boards.remove_place(name)


@contextlib.contextmanager
def _patiently() -> Iterator[None]:
    """Let no signal interrupt; outside the main thread none does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _running(record: Board, place: Path) -> Process:
    """Find the emulator that was just started.

    Raises:
        DeviceError: if it ended already.
    """
    found = record.process
    if found is None:
        raise DeviceError(record.name, "start", f"the emulator ended at once{_console(place)}")
    return found


def _wait(device: Device, emulator: Process, place: Path, patience: float) -> None:
    """Wait until the board lets us in.

    Raises:
        DeviceError: if it ends, refuses us, or does not answer in time.
    """
    deadline = time.monotonic() + patience
    while not (_greets(device) and _lets_in(device)):
        if not emulator.is_alive:
            raise DeviceError(device.name, "boot", f"the emulator ended{_console(place)}")
        if time.monotonic() > deadline:
            raise DeviceError(
                device.name, "boot", f"no login within {patience:.0f} s; to wait longer: --timeout{_console(place)}"
            )
        time.sleep(PAUSE_SECONDS)


def _greets(device: Device) -> bool:
    """Whether sshd says who it is; the emulator takes connections long before there is one."""
    with contextlib.suppress(OSError), socket.create_connection((device.host, device.port), GREETING_SECONDS) as way:
        way.settimeout(GREETING_SECONDS)
        return way.recv(4) == b"SSH-"
    return False


def _lets_in(device: Device) -> bool:
    """Whether a program can be run there.

    Raises:
        DeviceError: if it refuses the key, or shows another than it was given.
    """
    try:
        transport = connect(device)
    except ConnectError:
        return False
    try:
        channel = transport.open(["true"], "boot")
        for _ in channel.lines():
            pass
        channel.close()
    finally:
        transport.close()
    return True


def _console(place: Path) -> str:
    """The end of what the board said on its console, as the rest of a message."""
    try:
        lines = (place / qemu.CONSOLE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    tail = [line for line in lines if line.strip()][-TAIL_LINES:]
    return "; the end of its console:\n" + "\n".join(tail) if tail else "; its console is empty"
