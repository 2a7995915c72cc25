"""What can be known of virtual boards without starting one."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.boards import board, cpio, image, mirror, prerequisites, process, qemu
from harness.devices.boards.image import Image
from harness.devices.boards.recipe import FILES, Recipe
from harness.devices.registry import Device
from harness.errors import RegistryError, SelectionError, UsageError


def test_any_change_of_the_recipe_names_another_image(tmp_path: Path) -> None:
    key = Recipe().key()
    assert key == Recipe().key()
    assert Recipe(disk_mib=1).key() != key
    for path in FILES.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert Recipe().key(tmp_path) == key
    (tmp_path / "guest-init").write_text("#!/bin/sh\n")
    assert Recipe().key(tmp_path) != key


@pytest.mark.parametrize(("clock", "counts"), [("icount", True), ("wall", False)])
def test_the_emulators_words(tmp_path: Path, clock: qemu.Clock, counts: bool) -> None:
    words = qemu.command("/usr/bin/qemu", Image(tmp_path), tmp_path, "cortex-a53", clock, 2222)
    assert ("-icount" in words) == counts
    assert words[words.index("-smp") + 1] == ("1" if counts else "2")
    assert words[words.index("-cpu") + 1] == "cortex-a53"
    if counts:
        # With sleep=off the guest's time would jump while it is idle.
        assert words[words.index("-icount") + 1] == "shift=0"
    network = words[words.index("-netdev") + 1]
    assert "restrict=on" in network
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in network


def test_missing_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prerequisites, "tool", lambda _name: None)
    monkeypatch.setattr(prerequisites, "is_native", lambda: False)
    with pytest.raises(UsageError) as caught:
        prerequisites.check_build(tmp_path)
    for package in ("debootstrap", "qemu-system-arm", "qemu-user-static", "apt-get install"):
        assert package in str(caught.value)
    with pytest.raises(UsageError, match="qemu-system-arm"):
        prerequisites.check_start()


def test_building_needs_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="building an image needs root: sudo"):
        prerequisites.check_build(tmp_path)


def test_without_an_image_the_command_that_builds_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no image of a board in .*harness board build --folder"):
        image.find(tmp_path)


def test_a_process_is_known_by_its_start_too() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = process.start_of(child.pid)
    assert started is not None
    other = process.Process(child.pid, "another boot/1")
    assert not other.is_alive
    assert other.stop(1)
    assert child.poll() is None
    mine = process.Process(child.pid, started)
    assert mine.is_alive
    assert mine.stop(5)
    assert child.wait(5) == -15
    assert process.start_of(child.pid) is None


def started(name: str, pid: int | None, start: str | None, *, ready: bool = True) -> board.Board:
    board.place(name).mkdir(parents=True)
    record = board.Board(
        name=name, cpu="cortex-a53", clock="icount", image=Path("/i"), registry=Path("devices.toml"), since=datetime.now(UTC),
        port=1, pid=pid, started=start, ready=ready,
    )  # fmt: skip
    record.save()
    return record


def test_the_states_of_a_board() -> None:
    own = process.start_of(os.getpid())
    assert started("a", os.getpid(), own).state == "up"
    assert started("b", os.getpid(), own, ready=False).state == "starting"
    assert started("c", os.getpid(), "another boot/1").state == "stale"
    assert started("d", 2**22 - 3, "x/1").state == "dead"
    assert started("e", None, None).state == "stale"
    assert board.names() == ["a", "b", "c", "d", "e"]
    assert board.load("a") is not None
    with pytest.raises(SelectionError, match="no board 'f'"):
        board.find("f")


def test_a_boards_entry_comes_and_goes_and_comments_stay() -> None:
    path = Path("devices.toml")
    text = '# mine\n[rpi4]\nhost = "rpi4.lab"  # rack 2\n\n# the end\n'
    path.write_text(text)
    device = Device(name="a53", host="127.0.0.1", port=5, tags=["arm64", "cortex-a53"], emulated="icount")
    registry.write_device(path, device)
    assert registry.load().devices["a53"] == device
    with pytest.raises(RegistryError, match="there is a device 'a53' already"):
        registry.write_device(path, device)
    assert not registry.remove_device(path, "a53", host="another")
    assert registry.remove_device(path, "a53", host="127.0.0.1")
    assert path.read_text().strip() == text.strip()
    assert not registry.remove_device(path, "a53")


def test_the_mirror_is_the_one_that_apt_uses(tmp_path: Path) -> None:
    assert mirror.mirror(tmp_path) == mirror.DEFAULT
    (tmp_path / "sources.list").write_text(
        "deb http://other.example/tool bookworm main\n# deb http://no.example/debian bookworm main\n"
        "deb [arch=amd64] http://near.example/debian/ bookworm main\ndeb http://near.example/debian/ bookworm-updates main\n"
    )
    assert mirror.mirror(tmp_path) == "http://near.example/debian"


def test_an_archive_that_cpio_reads(tmp_path: Path) -> None:
    packed = cpio.archive({"a/b/run": (0o755, b"#!/bin/sh\n"), "key": (0o600, b"secret")}, folders=("proc",))
    (tmp_path / "c").write_bytes(packed)
    assert packed.startswith(b"070701")
    assert len(packed) % 512 == 0
    for name in (b"a\0", b"a/b\0", b"a/b/run\0", b"key\0", b"proc\0", b"TRAILER!!!\0"):
        assert name in packed


@pytest.mark.parametrize("name", ["../x", "a b", "", "-a"])
def test_names_that_no_board_can_have(name: str) -> None:
    with pytest.raises(UsageError):
        board.check_name(name)
