"""harness devices --noise on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.devices.device import Device
from harness.records.run import CaseRecord, DeviceRecord
from harness.workflow import noise
from tests.report.runs import FP32, case, finish, variant

if TYPE_CHECKING:
    from tests.cli.conftest import Command

LONG = ("devices", "--noise", "--time", "10m")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processes end it, however long each takes on a busy machine."""
    monkeypatch.setattr(noise, "MANY", 4)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_this_machine_tells_how_noisy_it_is(harness: Command) -> None:
    done = harness(*LONG, "--json")
    assert done.code == 0, done.err
    (found,) = done.json["devices"]
    assert found["device"] == "local"
    assert found["processes"] == 4
    assert found["milliseconds"] > 0
    assert found["smallest_slowdown"].keys() == {"10", "60"}
    assert max(found["disturbed"].values()) == found["disturbed"]["any"] <= 1
    assert found["interrupts_per_second"] > 0
    assert list(Path().iterdir()) == [], "nothing of it is left here"


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_it_is_told_in_sentences_and_a_wrong_entry_costs_itself_alone(harness: Command) -> None:
    Path("devices.toml").write_text('[far]\nhots = "far.invalid"\n')
    done = harness(*LONG)
    assert done.code == 0, done.err
    assert "local: smallest slowdown that the device detects in 95 of 100 cases: after 10 s: " in done.out
    assert "of the blocks were disturbed" in done.out
    assert "devices.toml:2: unknown key 'far.hots'" in done.err


def test_a_device_that_is_down_is_named_with_its_reason(harness: Command) -> None:
    Path("devices.toml").write_text('[far]\nhost = "127.0.0.1"\nport = 1\n')
    done = harness(*LONG, "--device", "far", "--json")
    assert done.code == 3
    (found,) = done.json["devices"]
    assert found["reason"].startswith("connect: ")


def test_a_time_is_only_for_noise(harness: Command) -> None:
    done = harness("devices", "--time", "10s")
    assert (done.code, done.err.strip()) == (2, "harness: --time needs --noise, because it is the duration of that measurement")
    done = harness("devices", "--noise", "--time", "soon")
    assert done.code == 2
    assert "--time: " in done.err


def test_an_emulated_device_has_no_noise_and_a_case_that_failed_is_named() -> None:
    lost = CaseRecord(device="board", case="c0", state="failed", kind="memory", reason="it ran out of memory")
    for entry, reason in (
        (Device(name="a53", host="h", emulated="icount"), noise.EMULATED),
        (Device(name="board", host="h"), "memory: it ran out of memory"),
    ):
        run = finish([], DeviceRecord(entry=entry), variants=[variant(FP32)], cases=[case("c0", FP32)]).run
        run = run.model_copy(update={"results": (lost,)})
        found = noise._finding(run, run.devices[0])
        assert (found.noise, found.reason) == (None, reason)
    short = finish(
        [],
        DeviceRecord(entry=Device(name="board", host="h"), state="measured"),
        variants=[variant(FP32)],
        cases=[case("c0", FP32)],
    ).run
    assert noise._finding(short, short.devices[0]).reason == noise.TOO_SHORT
