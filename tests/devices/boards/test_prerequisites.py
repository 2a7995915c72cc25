from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.devices.boards import prerequisites
from harness.errors import Exit, UsageError


class Usage(NamedTuple):
    """What shutil.disk_usage gives."""

    free: int


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has everything but two programs."""
    missing = {"debootstrap", "qemu-aarch64-static"}
    monkeypatch.setattr(prerequisites, "tool", lambda name: None if name in missing else f"/usr/bin/{name}")
    monkeypatch.setattr(prerequisites, "KEYRING", Path("/"))
    monkeypatch.setattr(prerequisites, "is_native", lambda: False)
    monkeypatch.setattr(prerequisites, "_has_binfmt", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.mark.usefixtures("bare")
def test_missing_packages_are_named_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        prerequisites.check_build(tmp_path / "not" / "there")
    assert str(caught.value) == (
        "missing Debian packages: debootstrap, qemu-user-static; as root: "
        "apt-get install --no-install-recommends debootstrap qemu-user-static"
    )
    assert caught.value.exit is Exit.USAGE


@pytest.mark.usefixtures("bare")
def test_everything_else_that_is_wrong_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_has_binfmt", lambda: False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 30))
    monkeypatch.setattr("sys.argv", ["/opt/bin/harness", "board", "build"])
    with pytest.raises(UsageError) as caught:
        prerequisites.check_build(tmp_path)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "missing Debian packages",
        "this kernel can't run programs of other machines (binfmt_misc)",
        str(tmp_path),
        "building an image needs root",
    ]
    assert lines[-1].endswith("sudo /opt/bin/harness board build")


@pytest.mark.usefixtures("bare")
def test_an_arm_machine_needs_no_emulator_to_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prerequisites, "is_native", lambda: True)
    monkeypatch.setattr(prerequisites, "_has_binfmt", lambda: False)
    monkeypatch.setattr(prerequisites, "tool", lambda name: f"/usr/bin/{name}")
    prerequisites.check_build(tmp_path)


def test_starting_needs_only_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "tool", lambda _: None)
    with pytest.raises(UsageError, match=r"apt-get install --no-install-recommends qemu-system-arm$"):
        prerequisites.check_start()


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UsageError, match="Linux"):
        prerequisites.check_build(tmp_path)
    with pytest.raises(UsageError, match="Linux"):
        prerequisites.check_start()
