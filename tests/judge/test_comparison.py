"""Contexts: what differs, what that means, and which changes between runs can be told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.devices.device import Device
from harness.errors import UsageError
from harness.judge import comparison
from harness.judge.judgement import Judgement
from harness.measure.events import Begin, Event
from harness.records import context
from harness.records.context import Context
from harness.records.run import DeviceRecord
from harness.report import comparison as words
from tests import duets
from tests.report.runs import FAST, FP32, case, facts, finish, variant

PAIR = ("c0", "c1")


def run(name: str, ratio: float, *, board: str = "rpi4", **changes: Any) -> Judgement:
    """A run in which the second case is so many times as fast as fp32."""
    begin: list[Event] = [Begin(device=board, time=0.0, facts=facts().model_copy(update=changes))]
    times: list[Event] = [
        duets.launch(board, PAIR, number, [[round(1000 * ratio * each), round(1000 * each)] for each in (1.0, 1.01)])
        for number in range(4)
    ]
    record = DeviceRecord(entry=Device(name=board, host="h"))
    judgement = finish(
        [*begin, *times], record, variants=[variant(FP32, 4000), variant(FAST)], cases=[case("c0", FP32), case("c1", FAST)]
    )
    return replace(judgement, run=judgement.run.model_copy(update={"id": name}))


def test_a_change_goes_through_what_both_measured_side_by_side() -> None:
    (found,) = comparison.compare([run("a", 3.0), run("b", 2.0)], force=False)
    first, second = found.cases[FAST]
    assert first is not None
    assert second is not None
    assert first.change is None
    assert second.change is not None
    # Its latency, in units of fp32's, went from a third to a half.
    assert second.change.value == pytest.approx(1.5, rel=0.01)
    reference = found.cases[FP32][1]
    assert reference is not None
    assert (reference.change, reference.reason) == (None, "this is the case that the others are compared through")


def test_without_a_common_fp32_no_change_is_told() -> None:
    one, other = run("a", 3.0), run("b", 2.0)
    changed = tuple(each.model_copy(update={"sha256": "cd" * 32}) for each in other.run.variants)
    (found,) = comparison.compare([one, replace(other, run=other.run.model_copy(update={"variants": changed}))], force=False)
    cell = found.cases[FAST][1]
    assert cell is not None
    assert (cell.change, cell.same_file) == (None, False)
    (sheet,) = words.sheets([one.run, other.run], [found])
    assert sheet.rows[1][3] == "–"
    assert any("no fp32 model in common" in line for line in sheet.lines)


@pytest.mark.parametrize(
    ("before", "now", "is_said"), [(0.004, 0.02, True), (0.004, 0.007, False), (0.02, 0.004, False), (0.001, 0.004, False)]
)
def test_a_run_on_a_noisier_device_says_so(before: float, now: float, *, is_said: bool) -> None:
    runs = [
        each.with_tables([replace(each.tables[0], noise=noise)])
        for each, noise in ((run("a", 3.0), before), (run("b", 3.0), now))
    ]
    (found,) = comparison.compare(runs, force=False)
    (sheet,) = words.sheets([each.run for each in runs], [found])
    said = [line for line in sheet.lines if "noise" in line]
    assert said == ([f"2 against 1: {comparison.NOISE}: ±{100 * before:.2g} % → ±{100 * now:.2g} %"] if is_said else [])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"governor": "powersave"}, "governor"),
        ({"cores": 2}, "cores"),
        ({"cpu_model": "other"}, "cpu"),
        ({"arch": "x86_64"}, "arch"),
    ],
)
def test_what_changes_the_meaning_is_refused_and_forced_with_words(changes: dict[str, Any], field: str) -> None:
    runs = [run("a", 3.0), run("b", 3.0, **changes)]
    with pytest.raises(UsageError, match=f"rpi4: b: {field}: "):
        comparison.compare(runs, force=False)
    (found,) = comparison.compare(runs, force=True)
    assert found.forced
    (sheet,) = words.sheets([each.run for each in runs], [found])
    assert any(line.startswith("FORCED") for line in sheet.lines)


def test_the_others_are_printed_beside() -> None:
    (found,) = comparison.compare([run("a", 3.0), run("b", 3.0, kernel="6.6")], force=False)
    assert [str(each) for each in found.differences[0]] == ["kernel: 6.1 → 6.6"]
    assert words.content([run("a", 3.0).run], [found])["devices"][0]["differences"][0][0]["decisive"] is False


def test_settings_are_part_of_it() -> None:
    one, other = run("a", 3.0), run("b", 3.0)
    study = other.run.study.model_copy(update={"measure": other.run.study.measure.model_copy(update={"duet": "calls"})})
    with pytest.raises(UsageError, match=r"measure\.duet: blocks → calls"):
        comparison.compare([one, replace(other, run=other.run.model_copy(update={"study": study}))], force=False)


def test_runs_without_a_common_device() -> None:
    with pytest.raises(UsageError, match="share no device: a: rpi4; b: n1"):
        comparison.compare([run("a", 3.0), run("b", 3.0, board="n1")], force=False)


def test_contexts_field_by_field() -> None:
    before, now = Context(cpu="A", kernel="5", cores=4), Context(cpu="B", kernel="6", cores=4)
    assert [(each.field, each.decisive) for each in context.differences(before, now)] == [("cpu", True), ("kernel", False)]
    assert context.differences(before, before) == ()
    assert DeviceRecord(entry=Device(name="x", host="h")).context is None
