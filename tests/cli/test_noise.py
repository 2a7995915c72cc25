"""harness devices --noise on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.devices.device import Device
from harness.records.run import CaseRecord, DeviceRecord
from harness.study.study import MeasureSection, ModelSection, Study
from harness.workflow import noise
from tests import duets
from tests.report.runs import FP32, case, finish, variant

if TYPE_CHECKING:
    from harness.measure.events import Event
    from tests.cli.conftest import Command

PAIR = ("c0", "c1")
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
def test_it_is_told_in_sentences_and_a_wrong_entry_is_a_device_that_was_not_measured(harness: Command) -> None:
    Path("devices.toml").write_text('[far]\nhots = "far.invalid"\n')
    done = harness(*LONG)
    assert done.code == 3, done.err
    assert "local: smallest slowdown that the device detects in 95 of 100 cases: after 10 s: " in done.out
    assert "of the blocks were disturbed" in done.out
    assert "far: entry: devices.toml:2: unknown key 'far.hots'" in done.out
    assert "local: round 4 done after " in done.err
    assert not any(word in done.err for word in ("given", "1000", "variant"))


def test_a_device_that_is_down_is_named_with_its_reason(harness: Command) -> None:
    Path("devices.toml").write_text('[far]\nhost = "127.0.0.1"\nport = 1\n')
    done = harness(*LONG, "--device", "far", "--json")
    assert done.code == 3
    (found,) = done.json["devices"]
    assert found["reason"].startswith("connect: ")


def test_an_emulated_device_is_not_connected_to_and_a_wrong_entry_has_its_reason(harness: Command) -> None:
    Path("devices.toml").write_text('[a53]\nhost = "127.0.0.1"\nport = 1\nemulated = "icount"\n[far]\nhots = "x"\n')
    done = harness(*LONG, "--device", "a53", "--json")
    assert (done.code, done.json) == (0, {"devices": [{"device": "a53", "reason": noise.EMULATED}]})
    done = harness(*LONG, "--device", "a53", "--device", "far", "--json")
    assert done.code == 3
    emulated, wrong = done.json["devices"]
    assert (emulated["device"], wrong["device"]) == ("a53", "far")
    assert wrong["reason"].startswith("entry: devices.toml:")


def test_waiting_is_only_for_noise_too(harness: Command) -> None:
    assert harness("devices", "--wait", "10m").code == 2
    assert harness("devices", "--noise", "--wait", "soon").code == 2


def test_a_time_is_only_for_noise(harness: Command) -> None:
    done = harness("devices", "--time", "10s")
    assert (done.code, done.err.strip()) == (2, "harness: --time needs --noise, because it is the duration of that measurement")
    done = harness("devices", "--noise", "--time", "soon")
    assert done.code == 2
    assert "--time: " in done.err


def finding(*events: Event, lost: CaseRecord | None = None) -> noise.Finding:
    cases = [case("c0", FP32), case("c1", "baseline:fp32")]
    record = DeviceRecord(entry=Device(name="board", host="h"), state="measured")
    variants = [variant(FP32), variant("baseline:fp32")]
    study = Study(name="noise", model=ModelSection(path=Path("noise.onnx")), measure=MeasureSection(max_time=8.0))
    run = finish(events, record, variants=variants, cases=cases, units=(PAIR,), study=study).run
    return noise._finding(run.model_copy(update={"results": (lost,) if lost else ()}), run.devices[0])


def test_a_case_that_failed_is_named() -> None:
    lost = CaseRecord(device="board", case="c0", state="failed", kind="memory", reason="it ran out of memory")
    found = finding(lost=lost)
    assert (found.noise, found.reason) == (None, "memory: it ran out of memory")


def test_a_time_that_is_too_short_says_which_one_is_enough() -> None:
    level = 300_000_000
    some = [duets.launch("board", PAIR, number, [[level, level]]) for number in range(2)]
    assert finding(*some).reason == "not measured: 2 launches fitted into 8 s, and 3 are needed: give about --time 40s"
    assert finding().reason == "not measured: no launches fitted into 8 s, and 3 are needed: give about --time 40s"


def test_a_clock_that_is_too_coarse_is_called_so() -> None:
    assert finding(*(duets.launch("board", PAIR, number, [[0, 0]]) for number in range(3))).reason == noise.COARSE
