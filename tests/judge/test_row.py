from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.devices.device import Device
from harness.errors import Exit
from harness.judge.checker import Checker
from harness.judge.row import Row
from harness.judge.table import Table
from harness.measure.events import Begin, End, Event, Failed, FidelityLine
from harness.measure.plan import Case
from harness.measure.route_events import DeviceFailed
from harness.quantize.recipe import Recipe, Variant
from harness.records.run import DeviceRecord
from tests.report.runs import FAST, FP32, blocks, case, facts, finish, lacking, variant

FP32_CASE, FAST_CASE = case("c0", FP32), case("c1", FAST)


def summarise(
    events: Sequence[Event],
    *,
    entry: Device | None = None,
    cases: Sequence[Case] = (FP32_CASE, FAST_CASE),
    variants: Sequence[Variant] | None = None,
) -> Table:
    """The table of one device, 'board', with these events."""
    record = DeviceRecord(entry=entry or Device(name="board", host="h"))
    (table,) = finish(events, record, variants=variants or [variant(FP32, 4000), variant(FAST)], cases=cases).tables
    return table


def rows(table: Table) -> dict[str, Row]:
    """A table's rows by case."""
    return {row.case: row for row in table.rows}


def test_a_level_is_the_geometric_mean_of_the_rounds_medians_in_milliseconds() -> None:
    row = rows(summarise(blocks("board", "c0", [1.0, 2.0, 4.0])))[FP32]
    assert row.median is not None
    assert row.median.value == pytest.approx(2.0)
    assert row.median.n == 3
    assert row.medians == pytest.approx((1.0, 2.0, 4.0))
    assert row.load is not None
    assert row.load.value == pytest.approx(5.0)
    assert row.peak_bytes == 50_000_000


def test_the_speed_up_is_paired_by_round() -> None:
    # The board slows down fourfold; in each round the variant is twice as fast, so the ratio is exact.
    table = summarise([*blocks("board", "c0", [2.0, 4.0, 8.0]), *blocks("board", "c1", [1.0, 2.0, 4.0])])
    speedup = rows(table)[FAST].speedup
    assert speedup is not None
    assert (speedup.value, speedup.low, speedup.high) == pytest.approx((2.0, 2.0, 2.0), rel=1e-6)


def test_only_rounds_that_both_took_part_in_make_a_ratio() -> None:
    table = summarise([*blocks("board", "c0", [2.0, 2.0]), *blocks("board", "c1", [1.0, 1.0, 1.0, 1.0])])
    row = rows(table)[FAST]
    assert row.median is not None
    assert row.median.n == 4
    assert row.speedup is not None
    assert row.speedup.n == 2
    assert row.speedup.low is None


def test_two_rounds_give_a_value_without_an_interval() -> None:
    row = rows(summarise(blocks("board", "c0", [1.0, 4.0])))[FP32]
    assert row.median is not None
    assert row.median.value == pytest.approx(2.0)
    assert (row.median.low, row.median.high) == (None, None)


@pytest.mark.parametrize(("count", "p90", "p99"), [(9, False, False), (10, True, False), (99, True, False), (100, True, True)])
def test_a_quantile_needs_enough_iterations(count: int, p90: bool, p99: bool) -> None:
    row = rows(summarise(blocks("board", "c0", [1.0] * 3, count)))[FP32]
    assert (row.p90 is not None, row.p99 is not None) == (p90, p99)


def test_one_short_block_is_enough_to_leave_p99_unknown() -> None:
    events = [*blocks("board", "c0", [1.0] * 3), blocks("board", "c0", [1.0] * 4, count=50)[3]]
    row = rows(summarise(events))[FP32]
    assert row.p99 is None
    assert row.p90 is not None


@pytest.mark.parametrize("by", ["facts", "owner"])
def test_an_emulated_device_gives_no_times(by: str) -> None:
    entry = Device(name="board", host="h", emulated="icount" if by == "owner" else None)
    events: list[Event] = [
        Begin(device="board", time=0.0, facts=facts(emulated=by == "facts")),
        *blocks("board", "c0", [1.0] * 3),
        *blocks("board", "c1", [1.0] * 3),
        FidelityLine(device="board", case="c1", mse=0.5, accuracy=0.9),
    ]
    table = summarise(events, entry=entry)
    assert table.emulated == ("icount" if by == "owner" else "qemu")
    for row in table.rows:
        assert row.state == "measured"
        assert (row.median, row.p90, row.p99, row.speedup, row.load, row.first, row.medians) == (None,) * 6 + ((),)
    assert rows(table)[FAST].fidelity.mse == 0.5


def test_without_a_measured_fp32_there_is_no_speed_up() -> None:
    failure = Failed(device="board", case="c0", round=None, kind="load", message="no such op")
    table = rows(summarise([failure, *blocks("board", "c1", [1.0] * 3)]))
    assert table[FP32].state == "failed"
    assert table[FP32].reason == "load: no such op"
    assert table[FAST].median is not None
    assert table[FAST].speedup is None


def test_a_clock_that_did_not_move_makes_times_unknown() -> None:
    table = rows(summarise([*blocks("board", "c0", [1.0] * 3), *blocks("board", "c1", [1.0, 0.0, 1.0])]))
    assert table[FAST].median is None
    assert table[FAST].speedup is None
    assert table[FP32].median is not None


def test_the_reference_has_the_same_settings() -> None:
    cases = [
        case("c0", FP32, named="fp32 threads=1"), case("c1", FP32, named="fp32 threads=4", threads=4),
        case("c2", FAST, named="fast threads=1"), case("c3", FAST, named="fast threads=4", threads=4),
    ]  # fmt: skip
    medians = {"c0": 8.0, "c1": 2.0, "c2": 4.0, "c3": 0.5}
    events = [event for name, median in medians.items() for event in blocks("board", name, [median] * 3)]
    table = rows(summarise(events, cases=cases))
    found = {name: row.speedup.value for name, row in table.items() if row.speedup}
    assert found == pytest.approx({"fp32 threads=1": 1, "fp32 threads=4": 1, "fast threads=1": 2, "fast threads=4": 4})


def test_the_drop_is_against_fp32_on_the_same_device() -> None:
    lines = [
        FidelityLine(device="board", case="c0", accuracy=0.75, identical=True),
        FidelityLine(device="board", case="c1", accuracy=0.5, reason="two outputs"),
    ]
    table = rows(summarise([*lines, *blocks("board", "c0", [1.0]), *blocks("board", "c1", [1.0])]))
    assert table[FP32].accuracy_drop == 0
    assert table[FP32].fidelity.identical
    assert table[FAST].accuracy_drop == 0.25
    assert table[FAST].notes[-1] == "two outputs"
    assert (table[FP32].size_ratio, table[FAST].size_ratio) == (1.0, 0.25)


def test_variants_without_a_file_keep_their_place_and_reason() -> None:
    variants = [variant(FP32, 4000), lacking("never", "impossible"), lacking("refused", "failed"), variant(FAST)]
    table = summarise(blocks("board", "c0", [1.0]), variants=variants)
    assert [(row.case, row.state) for row in table.rows] == [
        (FP32, "measured"),
        ("never", "impossible"),
        ("refused", "unmade"),
        (FAST, "unmeasured"),
    ]
    assert table.rows[1].reason == variants[1].reason


def test_a_file_for_another_platform_is_an_outcome_and_no_failure() -> None:
    recipe = Recipe(name="for-amd64", method="prepared", file_format="ort-amd64")
    variants = [variant(FP32, 4000), Variant(recipe=recipe, state="made", sha256="cd" * 32, size=9)]
    cases = [FP32_CASE, case("c1", "for-amd64")]
    events = [
        Begin(device="board", time=0.0, facts=facts()),
        *blocks("board", "c0", [1.0, 1.1, 1.0]),
        End(device="board", reason="rounds"),
    ]
    judgement = finish(events, DeviceRecord(entry=Device(name="board", host="h")), variants=variants, cases=cases)
    run, (table,) = judgement.run, judgement.tables
    reason = "the file was made for amd64, but this device is aarch64; files in onnxruntime's format fit only one architecture"
    assert [(row.state, row.reason) for row in table.rows] == [("measured", None), ("impossible", reason)]
    assert table.trouble is None
    assert judgement.exit == Exit.PASSED
    check = Checker(run, run.devices[0], {}).check(("c0", "c1"), "size", 0.05)
    assert (check.verdict, check.reason) == ("skipped", reason)


def test_a_failed_device_says_where_and_why() -> None:
    table = summarise([*blocks("board", "c0", [1.0]), DeviceFailed(device="board", step="measure", reason="it went away")])
    assert table.trouble == "measure: it went away"
    assert [row.state for row in table.rows] == ["measured", "unmeasured"]
    assert table.rows[1].reason == "the device failed: measure: it went away"


@pytest.mark.parametrize(
    ("reason", "trouble"), [("rounds", None), ("max_time", None), ("stopped", "interrupted before all rounds were done")]
)
def test_rounds_that_were_interrupted_are_trouble(reason: str, trouble: str | None) -> None:
    table = summarise([*blocks("board", "c0", [1.0]), End.model_validate({"device": "board", "reason": reason})])
    assert table.trouble == trouble


def test_devices_do_not_share_times() -> None:
    records = [DeviceRecord(entry=Device(name=name, host="h")) for name in ("one", "two")]
    events = [*blocks("one", "c0", [1.0] * 3), *blocks("two", "c0", [5.0] * 3)]
    found = finish(events, *records, variants=[variant(FP32)], cases=[FP32_CASE]).tables
    assert [table.rows[0].medians for table in found] == [pytest.approx((1.0,) * 3), pytest.approx((5.0,) * 3)]
