from __future__ import annotations

from pathlib import Path

import pytest

from harness.devices.boards import qemu
from harness.devices.boards.image import Image
from harness.errors import DeviceError
from tests.devices.boards.conftest import FakeEmulator

PLACE = Path("/boards/up/a53")


def value(words: list[str], option: str, nth: int = 0) -> str:
    return words[[number for number, word in enumerate(words) if word == option][nth] + 1]


def test_an_icount_board_has_one_core_and_counts() -> None:
    words = qemu.command("/usr/bin/qemu", Image(Path("/i,mages/x")), PLACE, "cortex-a53", "icount", 2201)
    assert words[0] == "/usr/bin/qemu"
    assert value(words, "-icount") == "shift=0"
    assert value(words, "-smp") == "1"
    assert value(words, "-cpu") == "cortex-a53"
    assert not any("sleep" in word for word in words)
    assert value(words, "-drive").endswith("snapshot=on,cache=unsafe,file=/i,,mages/x/disk.img")
    assert value(words, "-initrd") == "/boards/up/a53/initramfs"
    assert value(words, "-pidfile") == "/boards/up/a53/pid"


def test_a_wall_board_does_not_count() -> None:
    words = qemu.command("qemu", Image(Path("/x")), PLACE, "max", "wall", 2201)
    assert "-icount" not in words
    assert value(words, "-smp") == "2"


def test_the_only_way_in_is_sshd_on_loopback_and_there_is_none_out() -> None:
    words = qemu.command("qemu", Image(Path("/x")), PLACE, "max", "icount", 2201)
    assert value(words, "-netdev") == "user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:2201-:22"
    assert value(words, "-device", 1) == "virtio-net-pci,netdev=net,romfile="


def test_what_the_emulator_says_is_told(emulator: FakeEmulator, image: Image, tmp_path: Path) -> None:
    emulator.become(fault="no such cpu")
    with pytest.raises(DeviceError, match=r"b1: start: .*qemu-system-aarch64: no such cpu"):
        qemu.start("b1", str(emulator.path), image, tmp_path, "max", "icount")


def test_a_port_that_was_taken_meanwhile_is_given_up(
    emulator: FakeEmulator, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter(range(2201, 2300))
    monkeypatch.setattr(qemu, "_free_port", lambda: next(ports))
    emulator.become(fault="Could not set up host forwarding rule")
    with pytest.raises(DeviceError, match="host forwarding"):
        qemu.start("b1", str(emulator.path), image, tmp_path, "max", "icount")
    assert next(ports) == 2201 + qemu.PORTS_TRIED
