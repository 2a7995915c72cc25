from __future__ import annotations

import json

import pytest

from harness.devices.device import Device
from harness.errors import Exit, Failure
from harness.judge.judgement import Judgement
from harness.judge.outcome import EXITS, Outcome
from harness.measure.events import End, Event, Failed
from harness.measure.route_events import DeviceFailed
from harness.records.run import DeviceRecord
from harness.report import formats
from tests.report.runs import FP32, blocks, case, finish, variant
from tests.report.test_html import Page

MEASURED = blocks("board", "c0", [1.0, 1.0, 1.0])
DONE, LATE = End(device="board", reason="rounds"), End(device="board", reason="max_time")


def run(*events: Event, **changes: object) -> Judgement:
    entry = DeviceRecord(entry=Device(name="board", host="h"))
    return finish(events, entry, variants=[variant(FP32)], cases=[case("c0", FP32)], **changes)


CASES = {
    Outcome.COMPLETE: run(*MEASURED, DONE),
    Outcome.OUT_OF_TIME: run(*MEASURED, LATE),
    Outcome.INCOMPLETE: run(*MEASURED, LATE, Failed(device="board", case="c0", round=1, kind="crash", message="it crashed")),
    Outcome.BUSY: run(DeviceFailed(device="board", failure=Failure.BUSY, step="lease", reason="another job is measured there")),
    Outcome.INTERRUPTED: run(*MEASURED, LATE, state="interrupted"),
    Outcome.RUNNING: run(*MEASURED, state="running"),
}


@pytest.mark.parametrize(("said", "found"), CASES.items(), ids=[outcome.name for outcome in CASES])
def test_every_format_tells_the_same_story(said: Outcome, found: Judgement) -> None:
    assert (found.outcome, found.exit) == (said, EXITS[said])
    content = json.loads(formats.render("json", found))
    assert (content["state"], content["exit"]) == (said.value, int(EXITS[said]))
    page = Page(formats.render("html", found))
    assert said.value in page.inside("span")
    assert f", {said}." in formats.render("md", found).decode()
    is_late = said == Outcome.OUT_OF_TIME
    for name in ("table", "md", "html", "github", "junit"):
        assert ("Stopped after 5m" in formats.render(name, found).decode().replace("\\", "")) >= is_late, name
    assert ("✗" in formats.render("table", found).decode()) == (said in {Outcome.BUSY, Outcome.RUNNING})


def test_only_a_regression_ends_with_1() -> None:
    assert {said for said, exit_code in EXITS.items() if exit_code == Exit.REGRESSED} == {Outcome.REGRESSED}
    assert {said for said, exit_code in EXITS.items() if exit_code == Exit.PASSED} == {Outcome.COMPLETE, Outcome.PASSED}
    assert set(EXITS) == set(Outcome)


def test_only_a_device_that_another_job_holds_is_busy() -> None:
    broke = DeviceFailed(device="board", failure=Failure.LOST, step="lease", reason="the connection broke")
    assert run(broke).outcome == Outcome.INCOMPLETE
