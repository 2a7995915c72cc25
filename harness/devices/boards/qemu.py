"""QEMU's command line for a board, and starting it."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING, Literal, get_args

from harness.devices.boards import seed
from harness.errors import DeviceError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.devices.boards.image import Image

Cpu = Literal["cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "max"]
Clock = Literal["icount", "wall"]
CPUS: tuple[Cpu, ...] = get_args(Cpu)
CLOCKS: tuple[Clock, ...] = get_args(Clock)

MEMORY_MIB = 2048
WALL_CORES = 2
CONSOLE = "console.log"
PID = "pid"
PORTS_TRIED = 5
START_SECONDS = 60
KERNEL = "root=/dev/vda console=ttyAMA0 loglevel=4 panic=-1 nokaslr"


def command(emulator: str, image: Image, place: Path, cpu: Cpu, clock: Clock, port: int) -> list[str]:
    """Give the words that start a board.

    With an ``icount`` clock one instruction takes one nanosecond of the guest's time, and there is one core, so that every reading
    of its clock counts instructions. The disk is the image with the board's changes in a nameless file that ends with the process.

    Args:
        emulator: the path of QEMU.
        image: what it boots.
        place: the board's own folder, absolute.
        cpu: the core.
        clock: what its clock counts.
        port: on 127.0.0.1, led to the board's sshd; all other ways out of the board are shut.
    """
    counting = ["-icount", "shift=0", "-smp", "1"] if clock == "icount" else ["-smp", str(WALL_CORES)]
    disk = str(image.disk).replace(",", ",,")
    return [
        emulator, "-no-user-config", "-nodefaults",
        "-M", "virt", "-accel", "tcg", "-cpu", cpu, *counting, "-m", str(MEMORY_MIB),
        "-kernel", str(image.kernel), "-initrd", str(place / seed.INITRAMFS), "-append", KERNEL,
        "-drive", f"if=none,id=disk,format=raw,snapshot=on,cache=unsafe,file={disk}",
        "-device", "virtio-blk-pci,drive=disk",
        "-netdev", f"user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=net,romfile=",
        "-display", "none", "-serial", f"file:{place / CONSOLE}",
        "-no-reboot", "-pidfile", str(place / PID), "-daemonize",
    ]  # fmt: skip


def start(name: str, emulator: str, image: Image, place: Path, cpu: Cpu, clock: Clock) -> int:
    """Start a board on a free port; it lives on when we end.

    Returns:
        The port.

    Raises:
        DeviceError: if QEMU does not start.
    """
    said = ""
    for _ in range(PORTS_TRIED):
        port = _free_port()
        words = command(emulator, image, place, cpu, clock, port)
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=START_SECONDS,
                env={**os.environ, "TMPDIR": str(place)},
            )  # fmt: skip
        except subprocess.TimeoutExpired as exc:
            raise DeviceError(name, "start", f"{emulator} did not start within {START_SECONDS} s") from exc
        if done.returncode == 0:
            return port
        said = done.stderr.decode(errors="replace").strip()
        # Somebody may have taken the port since.
        if "host forwarding" not in said:
            break
    raise DeviceError(name, "start", f"{emulator}: {said or 'ended at once'}")


def _free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
