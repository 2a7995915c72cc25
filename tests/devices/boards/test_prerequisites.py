from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.devices.boards import prerequisites
from harness.devices.boards.prerequisites import EMULATOR, KEYRING, TO_BUILD, TO_START, USER_EMULATOR
from harness.errors import Exit, UsageError

ALL = {**TO_BUILD, **TO_START, USER_EMULATOR: "qemu-user-static"}


class Usage(NamedTuple):
    """What shutil.disk_usage gives."""

    free: int


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only programs that are found: one for each that is needed. The machine is an x86 one, the user is root."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ALL:
        (folder / name).touch(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(prerequisites, "SYSTEM", str(folder))
    monkeypatch.setattr(prerequisites, "KEYRING", folder)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(prerequisites, "_has_binfmt", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        prerequisites.check_build(folder)
    assert caught.value.exit is Exit.USAGE
    return str(caught.value)


def test_missing_packages_are_named_in_one_message(programs: Path, tmp_path: Path) -> None:
    prerequisites.check_build(tmp_path / "not" / "there")
    (programs / "debootstrap").unlink()
    # One that may not be executed is none.
    (programs / USER_EMULATOR).chmod(0o644)
    assert refusal(tmp_path) == (
        "missing Debian packages: debootstrap, qemu-user-static; as root: "
        "apt-get install --no-install-recommends debootstrap qemu-user-static"
    )


def test_everything_else_that_is_wrong_is_told_too(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (programs / "debootstrap").unlink()
    monkeypatch.setattr(prerequisites, "_has_binfmt", lambda: False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 30))
    monkeypatch.setattr("sys.argv", ["/opt/bin/harness", "board", "build"])
    lines = refusal(tmp_path).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "missing Debian packages",
        "this kernel can't run programs of other architectures (binfmt_misc)",
        str(tmp_path),
        "building an image needs root",
    ]
    assert lines[-1].endswith("sudo /opt/bin/harness board build")


def test_only_other_machines_need_an_emulator_to_build(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (programs / USER_EMULATOR).unlink()
    monkeypatch.setattr(prerequisites, "_has_binfmt", lambda: False)
    assert [line.split(":")[0] for line in refusal(tmp_path).splitlines()] == [
        "missing Debian packages",
        "this kernel can't run programs of other architectures (binfmt_misc)",
    ]
    assert prerequisites.packages_to_build() == ["qemu-user-static"]
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert prerequisites.packages_to_build() == []
    prerequisites.check_build(tmp_path)


def test_starting_needs_only_the_emulator(programs: Path) -> None:
    for path in programs.iterdir():
        if path.name != EMULATOR:
            path.unlink()
    assert prerequisites.check_start() == str(programs / EMULATOR)
    (programs / EMULATOR).unlink()
    with pytest.raises(UsageError, match=r"apt-get install --no-install-recommends qemu-system-arm$"):
        prerequisites.check_start()


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg: it is Debian's own")
@pytest.mark.parametrize("name", [*ALL, KEYRING.name])
def test_debian_has_each_in_the_package_that_is_named(name: str) -> None:
    """As dpkg says of those that are installed here."""
    place = KEYRING if name == KEYRING.name else Path(prerequisites.tool(name) or "/none")
    if not place.exists():
        pytest.skip(f"{name} is not installed")
    # /bin and /sbin are links to folders of /usr where the system is merged, and dpkg may know either name.
    names = {str(place), str(place.parent.resolve() / place.name), str(place).removeprefix("/usr")}
    done = subprocess.run(["dpkg", "--search", *sorted(names)], capture_output=True, text=True, check=False)
    owners = {word.strip() for line in done.stdout.splitlines() for word in line.split(": ")[0].split(",")}
    assert ALL.get(name, prerequisites.KEYRING_PACKAGE) in owners, done.stdout + done.stderr


@pytest.mark.skipif(prerequisites.tool(EMULATOR) is None, reason="no emulator: 'make test-boards' installs it where it may")
def test_the_emulator_that_is_found_is_one() -> None:
    done = subprocess.run([prerequisites.check_start(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("QEMU emulator version")


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UsageError, match="Linux"):
        prerequisites.check_build(tmp_path)
    with pytest.raises(UsageError, match="Linux"):
        prerequisites.check_start()
