from __future__ import annotations

import pytest

from harness.devices.device import Device
from harness.judge.shortfall import Shortfall, duration
from harness.judge.table import Table
from harness.measure.events import End, Event, Failed, Round
from harness.measure.route_events import DeviceFailed
from harness.records.run import DeviceRecord
from tests import duets
from tests.report.runs import FAST, FP32, case, finish, variant

PAIR = ("c0", "c1")
NOISY, STEADY = [1900, 2600, 2000, 2500], [2000, 2001, 2000, 2001]
LATE = End(device="board", reason="max_time")


def launches(levels: list[int]) -> list[Event]:
    return [duets.launch("board", PAIR, number, [[level, 1000]]) for number, level in enumerate(levels)]


def summarise(*events: Event) -> Table:
    entry = Device(name="board", host="h")
    judgement = finish(
        events,
        DeviceRecord(entry=entry),
        variants=[variant(FP32), variant(FAST)],
        cases=[case("c0", FP32), case("c1", FAST)],
    )
    return judgement.tables[0]


def short(*events: Event) -> Shortfall:
    found = summarise(*events).shortfall
    assert found is not None
    return found


def test_it_says_how_precise_each_figure_got_and_how_to_go_on() -> None:
    found = short(*launches(NOISY), Round(device="board", round=3, elapsed=9.0), LATE)
    assert (found.rounds, found.seconds, found.figures, found.noun) == (4, 300.0, 1, "speed-ups")
    ((name, reached),) = [(each.name, each.reached) for each in found.imprecise]
    assert name == FAST
    assert reached is not None
    assert 0.1 < reached < 0.5
    assert found.sentence.startswith(
        "Stopped after 5m (max_time), with 4 rounds: 1 of 1 speed-ups is less precise than ±1 % (static-QDQ: ±"
    )
    assert found.sentence.endswith("To go on: harness run --resume 2026-11-20T10-15-00Z-ab12")


def test_what_was_not_measured_comes_first_and_is_called_so() -> None:
    found = short(LATE)
    assert [str(each) for each in found.imprecise] == [f"{FAST}: not measured"]
    assert "in the first round" in found.sentence


def test_too_few_launches_allow_no_interval() -> None:
    assert [str(each) for each in short(*launches(NOISY[:2]), LATE).imprecise] == [f"{FAST}: without an interval"]


def test_when_every_figure_is_precise_something_else_is_lacking() -> None:
    found = short(*launches(STEADY), LATE)
    assert found.imprecise == ()
    assert "not everything that the study requires was measured" in found.sentence


def test_a_case_that_failed_is_not_called_imprecise() -> None:
    failed = Failed(device="board", case="c1", round=1, kind="crash", message="it crashed")
    assert short(*launches(NOISY), failed, LATE).imprecise == ()


@pytest.mark.parametrize(
    "end", [End(device="board", reason="rounds"), DeviceFailed(device="board", step="measure", reason="gone")]
)
def test_a_device_that_did_all_or_failed_has_none(end: Event) -> None:
    assert summarise(*launches(STEADY), end).shortfall is None


@pytest.mark.parametrize(("seconds", "words"), [(300.0, "5m"), (90.0, "90s"), (0.5, "0.5s"), (7200.0, "120m"), (10.0, "10s")])
def test_durations_read_as_studies_write_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
