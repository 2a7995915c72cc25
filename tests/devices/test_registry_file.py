"""Entries of devices.toml that come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.devices import registry, registry_file
from harness.devices.device import Device
from harness.errors import RegistryError

TEXT = """\
# the lab's boards
[rpi4]
host = "rpi4.lab"   # in the rack
tags = ["arm64"]

# not there yet
# [rpi5]
"""
BOARD = Device(
    name="a53", host="127.0.0.1", port=2201, identity_file=Path("/k/identity"), tags=["arm64", "cortex-a53"], emulated="icount"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "devices.toml"
    path.write_text(TEXT)
    return path


def test_an_entry_is_added_and_removed_and_comments_stay(file: Path) -> None:
    file.chmod(0o640)
    registry_file.write_device(file, BOARD)
    assert registry.load(file).get("a53") == BOARD
    assert file.read_text().startswith(TEXT)
    assert file.stat().st_mode & 0o777 == 0o640
    assert registry_file.remove_device(file, "a53", identity_file="/k/identity")
    assert file.read_text() == TEXT
    assert not registry_file.remove_device(file, "a53")


def test_comments_of_what_comes_after_stay(file: Path) -> None:
    registry_file.write_device(file, BOARD)
    after = '\n# a server, from here on\n[big]\nhost = "big.lab"\n'
    file.write_text(file.read_text() + after)
    registry_file.remove_device(file, "a53")
    assert file.read_text() == TEXT + after


@pytest.mark.parametrize("entry", ['["a53"]\nhost = "x"\n', '[a53]\nhost = """\n[x]\n"""\n', 'a53 = { host = "x" }\n'])
def test_an_entry_is_removed_however_it_is_written(tmp_path: Path, entry: str) -> None:
    file = tmp_path / "devices.toml"
    file.write_text(f"# first\n{entry}\n[rpi4]\nhost = 'y'\n")
    assert registry_file.remove_device(file, "a53")
    assert list(registry.load(file).devices) == ["local", "rpi4"]
    assert file.read_text().startswith("# first\n")


def test_an_entry_that_somebody_made_her_own_stays(file: Path) -> None:
    registry_file.write_device(file, BOARD.model_copy(update={"identity_file": Path("~/.ssh/mine")}))
    assert not registry_file.remove_device(file, "a53", identity_file="/k/identity")
    assert "a53" in registry.load(file).devices


def test_a_file_that_was_made_goes_with_its_last_entry(tmp_path: Path) -> None:
    file = tmp_path / "devices.toml"
    registry_file.write_device(file, BOARD)
    registry_file.write_device(file, BOARD.model_copy(update={"name": "a76"}))
    assert list(registry.load(file).devices) == ["local", "a53", "a76"]
    registry_file.remove_device(file, "a53")
    assert list(registry.load(file).devices) == ["local", "a76"]
    registry_file.remove_device(file, "a76")
    assert not file.exists()
    assert not registry_file.remove_device(file, "a76")


def test_a_name_that_is_taken_is_an_error_with_its_line(file: Path) -> None:
    with pytest.raises(RegistryError, match=r"devices\.toml:2: there is already a device 'rpi4'"):
        registry_file.write_device(file, BOARD.model_copy(update={"name": "rpi4"}))


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="No such file"):
        registry_file.write_device(tmp_path / "none" / "devices.toml", BOARD)


def test_a_written_key_keeps_comments_and_order(file: Path) -> None:
    registry_file.write_device(file, BOARD)
    registry_file.write_key(registry.load(file), "rpi4", host_key="ssh-ed25519 AAAA")
    text = file.read_text()
    assert text.startswith("# the lab's boards\n[rpi4]\n")
    assert "# in the rack" in text
    assert text.index("host_key") < text.index("[a53]")
    assert registry.load(file).devices["rpi4"].host_key == "ssh-ed25519 AAAA"


def test_a_key_can_not_be_written_without_a_file() -> None:
    with pytest.raises(RegistryError, match=r"no devices\.toml to write to"):
        registry_file.write_key(registry.load(), "local", host_key="x y")
