from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli.app import app
from harness.devices import registry
from harness.devices.boards import board as boards
from harness.devices.boards import lifecycle, process
from harness.devices.boards.image import Image
from tests.devices.boards.conftest import FakeEmulator

TEXT = "# the lab's\n[rpi4]\nhost = 'rpi4.lab'\n"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    for name in boards.names():
        lifecycle.down(name)


@pytest.fixture
def friendly(emulator: FakeEmulator, monkeypatch: pytest.MonkeyPatch) -> FakeEmulator:
    """An emulator whose boards let us in at once."""
    monkeypatch.setattr(lifecycle, "_greets", lambda _: True)
    monkeypatch.setattr(lifecycle, "_lets_in", lambda _: True)
    return emulator


def harness(*words: str) -> Result:
    return CliRunner().invoke(app, ["board", *words])


def start(image: Image, name: str = "a53", *more: str) -> Result:
    return harness("up", name, "--cpu", "cortex-a53", "--folder", str(image.folder.parent), *more)


def states() -> dict[str, str]:
    return {board["name"]: board["state"] for board in json.loads(harness("list", "--json").stdout)["boards"]}


@pytest.mark.usefixtures("friendly")
def test_up_enters_a_device_and_down_leaves_nothing(image: Image, tmp_path: Path) -> None:
    file = Path("devices.toml")
    file.write_text(TEXT)
    done = start(image)
    assert done.exit_code == 0, done.output
    device = registry.load(file).get("a53")
    assert (device.host, device.user, device.tags, device.emulated) == ("127.0.0.1", "board", ["arm64", "cortex-a53"], "icount")
    assert device.host_key is not None
    assert device.host_key.startswith("ssh-ed25519 ")
    assert device.identity_file is not None
    assert device.identity_file.stat().st_mode & 0o777 == 0o600
    assert states() == {"a53": "up"}
    listed = harness("list").stdout
    assert all(word in listed for word in ("a53", "cortex-a53", "icount", str(device.port), "up", "entered in"))
    record = boards.load("a53")
    assert record is not None
    assert record.pid is not None
    assert harness("down", "a53").exit_code == 0
    assert process.start_of(record.pid) is None
    assert file.read_text() == TEXT
    assert not (tmp_path / "store" / "boards" / "up").exists()


@pytest.mark.usefixtures("friendly")
def test_two_boards_in_a_registry_of_their_own(image: Image) -> None:
    assert start(image, "a", "--registry", "my.toml", "--json").exit_code == 0
    assert start(image, "b", "--registry", "my.toml", "--clock", "wall").exit_code == 0
    devices = registry.load(Path("my.toml")).devices
    assert devices["b"].emulated == "wall"
    assert devices["a"].port != devices["b"].port
    assert devices["a"].host_key != devices["b"].host_key
    assert json.loads(harness("down", "--all", "--json").stdout) == {"down": ["a", "b"]}
    assert not Path("my.toml").exists()


@pytest.mark.usefixtures("friendly")
def test_names_that_are_taken(image: Image) -> None:
    Path("devices.toml").write_text(TEXT)
    for name, words in {
        "rpi4": "has a device of that name",
        "local": "is the name of this machine",
        "a/b": "a name has at most 100",
    }.items():
        done = start(image, name)
        assert (done.exit_code, words in done.stderr) == (2, True), done.stderr
    assert start(image).exit_code == 0
    again = start(image, "a53", "--registry", "other.toml")
    assert again.exit_code == 2
    assert "harness board down a53" in again.stderr
    assert states() == {"a53": "up"}


@pytest.mark.usefixtures("friendly")
def test_a_dead_board_is_shown_and_taken_down(image: Image) -> None:
    start(image)
    record = boards.load("a53")
    assert record is not None
    assert record.pid is not None
    os.kill(record.pid, signal.SIGKILL)
    while process.start_of(record.pid) is not None:
        time.sleep(0.01)
    assert states() == {"a53": "dead"}
    assert harness("down", "a53").exit_code == 0
    assert not Path("devices.toml").exists()


@pytest.mark.usefixtures("friendly")
def test_a_stale_board_costs_no_other_process_its_life(image: Image) -> None:
    start(image)
    record = boards.load("a53")
    assert record is not None
    assert record.process is not None
    record.process.stop(5)
    record.model_copy(update={"pid": os.getpid()}).save()
    assert states() == {"a53": "stale"}
    assert harness("down", "a53").exit_code == 0
    assert states() == {}


@pytest.mark.usefixtures("friendly")
def test_what_a_killed_up_left_is_taken_down(image: Image) -> None:
    start(image)
    record = boards.load("a53")
    assert record is not None
    assert record.pid is not None
    record.model_copy(update={"pid": None, "started": None, "port": None, "ready": False}).save()
    assert states() == {"a53": "starting"}
    (boards.folder() / "empty").mkdir()
    assert states()["empty"] == "stale"
    assert "stale" in harness("list").stdout
    assert harness("down", "--all").exit_code == 0
    assert process.start_of(record.pid) is None
    assert not Path("devices.toml").exists()


def test_a_board_that_does_not_answer_is_told_with_its_console(emulator: FakeEmulator, image: Image) -> None:
    emulator.become(life=30)
    done = start(image, "a53", "--timeout", "1")
    assert done.exit_code == 3
    assert "a53: boot: no login within 1 s; to wait longer: --timeout; the end of its console:" in done.stderr
    assert "Kernel panic" in done.stderr
    assert states() == {}
    assert not Path("devices.toml").exists()


def test_an_emulator_that_ends_is_told_at_once(emulator: FakeEmulator, image: Image) -> None:
    emulator.become(life=0.3)
    done = start(image)
    assert done.exit_code == 3
    assert "the emulator ended" in done.stderr
    assert states() == {}


@pytest.mark.usefixtures("friendly")
def test_a_registry_that_broke_meanwhile_keeps_no_board_alive(image: Image) -> None:
    start(image)
    Path("devices.toml").write_text("[")
    done = harness("down", "a53")
    assert done.exit_code == 2
    assert "not valid TOML" in done.stderr
    assert "correct the file, then repeat: harness board down a53" in done.stderr
    assert states() == {"a53": "dead"}
    Path("devices.toml").write_text("")
    assert harness("down", "a53").exit_code == 0
    assert states() == {}


def test_down_wants_a_name_that_there_is() -> None:
    assert harness("down").exit_code == 2
    done = harness("down", "a53")
    assert done.exit_code == 2
    assert "no board 'a53'; none is up" in done.stderr
    assert harness("down", "--all").exit_code == 0
    assert "no virtual board is up" in harness("list").stdout


def test_up_without_an_image(emulator: FakeEmulator) -> None:
    assert emulator.path.exists()
    done = harness("up", "a53", "--cpu", "max")
    assert done.exit_code == 2
    assert "harness board build" in done.stderr
