"""Real boards: they boot, are what they say, count, have no way out, and leave nothing behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.boards import board as boards
from harness.devices.boards import image as images
from harness.devices.boards import lifecycle, process
from harness.devices.boards.board import Board
from harness.devices.boards.image import Image
from harness.devices.boards.qemu import Cpu
from harness.devices.probe import probe
from harness.devices.registry import Registry
from harness.devices.transports.ssh import SshTransport
from harness.errors import DeviceError

pytestmark = [pytest.mark.boards, pytest.mark.slow]

COUNT = """
import time
def loop():
    total = 0
    for number in range(100000):
        total += number
loop()
for _ in range(3):
    start = time.perf_counter_ns()
    loop()
    print(time.perf_counter_ns() - start)
"""
CALL_OUT = """
import socket
for place in (("192.0.2.1", 80), ("10.0.2.2", {port}), ("10.0.2.3", 53)):
    try:
        socket.create_connection(place, 10)
        print("open", place)
    except OSError:
        print("shut")
"""


def python(known: Registry, name: str, code: str) -> list[str]:
    transport = SshTransport(known.get(name))
    try:
        return [line.decode().strip() for line in transport.open(["python3", "-c", code], "test").lines()]
    finally:
        transport.close()


def test_two_boards_at_once(built: Image) -> None:
    cpus: tuple[Cpu, ...] = ("cortex-a53", "cortex-a76")
    try:
        with ThreadPoolExecutor() as pool:
            started: list[Board] = list(pool.map(lambda cpu: lifecycle.up(cpu, cpu, "icount", built, None, 180), cpus))
        known = registry.load()
        assert [board.state for board in started] == ["up", "up"]
        for cpu in cpus:
            answer = probe(known.get(cpu))
            assert answer.facts is not None, answer.error
            assert answer.facts.arch == "aarch64"
            assert answer.facts.cpu_model == cpu.title()
            assert ("asimddp" in answer.facts.features) is (cpu == "cortex-a76")
            assert answer.facts.python.startswith("3.11.")
            assert answer.facts.emulated is not None
            assert answer.facts.onnxruntime.version is None
            first, again = (sorted(map(int, python(known, cpu, COUNT))) for _ in range(2))
            assert abs(first[1] - again[1]) < 0.001 * first[1]
        assert python(known, "cortex-a53", CALL_OUT.format(port=known.get("cortex-a76").port)) == ["shut"] * 3
    finally:
        for name in boards.names():
            lifecycle.down(name)
    assert [process.start_of(board.pid or 0) for board in started] == [None, None]
    assert not Path("devices.toml").exists()
    assert not boards.folder().exists()


def test_a_board_that_can_not_boot_says_why(built: Image, tmp_path: Path) -> None:
    broken = Image(tmp_path / f"{images.PREFIX}broken")
    broken.folder.mkdir()
    broken.kernel.symlink_to(built.kernel)
    broken.initramfs.symlink_to(built.initramfs)
    broken.disk.write_bytes(bytes(1 << 20))
    with pytest.raises(DeviceError, match=r"the emulator ended; the end of its console:\n(.*\n)*.*the disk can not be mounted"):
        lifecycle.up("broken", "cortex-a53", "icount", broken, None, 120)
    assert boards.names() == []
    assert not Path("devices.toml").exists()
