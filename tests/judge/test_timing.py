"""Levels and ratios: from duets, from processes that alternate, and where they disagree."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.devices.device import Device
from harness.judge.row import Row
from harness.judge.table import Table
from harness.measure.events import End, Evaluated, Governor, Round, SeparateProcesses, Throughput, Trouble
from harness.measure.launch import Launch
from harness.records.run import DeviceRecord
from tests import duets
from tests.report.runs import FAST, FP32, SHA, case, facts, finish, variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.measure.events import Event

CASES = [case("c0", FP32), case("c1", FAST)]
PAIR = ("c0", "c1")


def table(events: Sequence[Event], **entry: Any) -> Table:
    record = DeviceRecord(entry=Device(name="board", host="h", **entry))
    (found,) = finish(events, record, variants=[variant(FP32, 4000), variant(FAST)], cases=CASES).tables
    return found


def rows(events: Sequence[Event], **entry: Any) -> tuple[Row, Row]:
    first, second = table(events, **entry).rows
    return first, second


def test_the_ratio_is_within_each_rebuild() -> None:
    # The machine drifts threefold between rebuilds; in each the second is twice as fast.
    medians = [[[2000, 1000], [4000, 2000]], [[6000, 3000], [2000, 1000]], [[3000, 1500], [4000, 2000]]]
    first, second = rows([duets.launch("board", PAIR, number, each) for number, each in enumerate(medians)])
    assert second.speedup is not None
    assert (second.speedup.value, second.speedup.low, second.speedup.high) == pytest.approx((2, 2, 2))
    assert (second.speedup.n, second.speedup.processes) == (6, 3)
    assert first.median is not None
    assert first.median.value == pytest.approx(math.prod([2, 3, 4, 4]) ** (1 / 4) / 1000), (
        "without the largest and the smallest of six"
    )
    assert len(second.medians) == 3


def test_each_pair_of_blocks_is_a_replicate() -> None:
    three = duets.rebuild(*(duets.pair([[first] * 3, [100] * 3]) for first in (200, 300, 900)))
    events = [Launch.model_validate({**duets.line(PAIR, number, three), "device": "board"}) for number in range(3)]
    assert rows(events)[1].speedup == pytest.approx(rows(events)[1].speedup)
    found = rows(events)[1].speedup
    assert found is not None
    assert (found.n, found.processes) == (9, 3)
    assert found.value == pytest.approx(math.prod([2, 2, 3, 3, 3, 9, 9]) ** (1 / 7)), (
        "without the largest and the smallest of nine"
    )


def test_a_disturbed_pair_does_not_count_but_is_told() -> None:
    bad = duets.pair([[900] * 3, [100] * 3], disturbed=["cpu", "steal"])
    mixed = duets.rebuild(duets.pair([[200] * 3, [100] * 3]), bad, bad)
    events = [Launch.model_validate({**duets.line(PAIR, number, mixed), "device": "board"}) for number in range(3)]
    found = rows(events)[1].speedup
    assert found is not None
    assert found.value == pytest.approx(2)
    assert table(events).remarks[0] == "6 of 9 pairs of blocks were disturbed (cpu 6, steal 6) and are left out"
    all_bad = [Launch.model_validate({**duets.line(PAIR, n, duets.rebuild(bad)), "device": "board"}) for n in range(3)]
    because = "because no undisturbed one was left in their rebuild"
    all_said = f"All 3 pairs of blocks were disturbed (cpu 3, steal 3); all of these count, {because}"
    assert table(all_bad).remarks[0] == all_said
    some_said = f"7 of 10 pairs of blocks were disturbed (cpu 7, steal 7); 6 are left out, and 1 count, {because}"
    later = Launch.model_validate({**duets.line(PAIR, 3, duets.rebuild(bad)), "device": "board"})
    assert table([*events, later]).remarks[0] == some_said


def test_processes_that_alternate_are_paired_by_round() -> None:
    events: list[Event] = [SeparateProcesses(device="board", cases=PAIR, reason="too large")]
    for number, drift in enumerate([1, 2, 3]):
        for name, level in (("c0", 2000), ("c1", 1000)):
            events.append(duets.launch("board", [name], number, [[level * drift]], apart=PAIR))
    found = rows(events)[1].speedup
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    assert table(events).remarks == ("fp32 with static-QDQ: measured in separate processes, not side by side: too large",)


def test_levels_that_contradict_the_ratio_are_called_out() -> None:
    alone = [duets.launch("board", ["c1"], number, [[500 + number]], apart=None) for number in range(3, 9)]
    together = [duets.launch("board", PAIR, number, [[2000 + number, 1000]]) for number in range(3)]
    assert not rows(together)[1].notes[1:]
    note = rows([*together, *alone])[1].notes[-1]
    assert "speed-up side by side 2.00" in note
    assert "depends on what runs beside it" in note


def test_loads_are_those_of_a_processs_first_session() -> None:
    def event(number: int, order: list[int]) -> Launch:
        said = duets.rebuild(duets.pair([[10], [10]]), order=order, load_ns=[7_000_000, 3_000_000], first_ns=[70, 30])
        return Launch.model_validate({**duets.line(PAIR, number, said, said), "device": "board"})

    evaluated = Evaluated.model_validate(
        {
            "device": "board", "case": "c0", "outputs": {"name": "c0.npz", "size": 1, "sha256": SHA}, "load_ns": 7_000_000,
            "first_ns": 70, "seconds": 1.0, "peak_bytes": 4_000_000,
        }
    )  # fmt: skip
    first, second = rows([evaluated, event(0, [0, 1]), event(1, [0, 1]), event(2, [1, 0])])
    assert first.load is not None
    assert second.load is not None
    assert first.load.value == pytest.approx(7)
    assert second.load.value == pytest.approx(3)
    assert (first.load.n, second.load.n) == (3, 1)
    # A process with both sessions says nothing of one.
    assert (first.peak_bytes, second.peak_bytes) == (4_000_000, None)


def graph(case_id: str, fingerprint: str, **ops: int) -> Evaluated:
    said = [{"op": op, "provider": "CPU", "count": count, "microseconds": 1.5} for op, count in ops.items()]
    return Evaluated.model_validate(
        {
            "device": "board", "case": case_id, "outputs": {"name": "o", "size": 1, "sha256": SHA}, "load_ns": 1, "first_ns": 1,
            "seconds": 1.0, "graph": {"fingerprint": fingerprint, "nodes": 9, "ops": said, "left": ["a", "b"]},
        }
    )  # fmt: skip


def test_graphs_get_letters_and_what_stayed_unfused_is_counted() -> None:
    first, second = rows([graph("c0", "x"), graph("c1", "y", QuantizeLinear=5, DequantizeLinear=6, Cast=1)])
    assert (first.graph, first.unfused, first.casts) == ("A", 0, 0)
    assert (second.graph, second.nodes, second.unfused, second.casts, second.left) == ("B", 9, 11, 1, ("a", "b"))
    first, second = rows([graph("c0", "x"), graph("c1", "x")])
    assert (first.graph, second.graph) == ("A", "A")


def test_throughput_is_over_processes() -> None:
    events = [
        Throughput(device="board", case="c1", round=number, sessions=2, inferences=count, wall_ns=500_000_000)
        for number, count in enumerate([100, 100, 100])
    ]
    ((sessions, found),) = rows([*events, duets.launch("board", PAIR, 0, [[2, 1]])])[1].throughput
    assert (sessions, found.n) == (2, 3)
    assert found.value == pytest.approx(200)


def test_what_became_of_the_governor_is_told() -> None:
    done = Governor(device="board", governor="performance", was=["ondemand"])
    assert table([done]).remarks == (
        "the governor was set to performance for the measurement; before and afterwards, it was ondemand",
    )
    failed = Governor(device="board", governor="performance", reason="scaling_governor: Permission denied")
    assert "could not be set to performance: scaling_governor: Permission denied" in table([failed]).remarks[0]


def test_cores_of_several_kinds_want_to_be_chosen() -> None:
    said = facts().model_dump()
    said["core_kinds"] = [{"capacity": 446, "cpus": [0, 1, 2, 3]}, {"capacity": 1024, "cpus": [4, 5]}]
    entry = Device(name="board", host="h")
    record = DeviceRecord.model_validate({"entry": entry, "facts": said})
    (found,) = finish([], record, variants=[variant(FP32)], cases=CASES[:1]).tables
    assert found.remarks[0].startswith("the device has 2 kinds of cores (0, 1, 2, 3; 4, 5)")


def test_cases_that_warm_up_too_slowly_are_named() -> None:
    late = duets.rebuild(duets.pair([[10], [10]]), steady=[True, False])
    events = [Launch.model_validate({**duets.line(PAIR, n, late, late), "device": "board"}) for n in range(2)]
    assert table(events).remarks == ("still warming up after measure.warmup: static-QDQ (4 of 4)",)


def test_a_pair_that_was_parted_counts_its_alternating_processes_alone() -> None:
    events: list[Event] = [duets.launch("board", PAIR, 0, [[9000, 1000]])]
    for number in range(1, 5):
        events += [duets.launch("board", [name], number, [[level]], apart=PAIR) for name, level in (("c0", 2000), ("c1", 1000))]
    found = rows(events)[1].speedup
    assert found is not None
    assert (found.value, found.low) == pytest.approx((2, 2))
    assert found.processes == 4


def test_rounds_that_did_not_tell_closely_enough_are_named() -> None:
    events: list[Event] = [duets.launch("board", PAIR, number, [[level, 1000]]) for number, level in enumerate([2000, 2600] * 20)]
    events += [Round(device="board", round=39, elapsed=1.0), End(device="board", reason="rounds")]
    short = table(events).shortfall
    assert short is not None
    assert [figure.name for figure in short.imprecise] == ["static-QDQ"]
    assert re.fullmatch(
        r"Stopped after 40 rounds: 1 of 1 speed-ups is less precise than ±1 % \(static-QDQ: ±7.3 %\)\. "
        r"To measure more closely, give more --rounds\.",
        short.sentence,
    )


def test_what_could_not_be_counted_is_a_note_and_no_failure() -> None:
    trouble = Trouble(device="board", case="c1", what="throughput", kind="memory", message="too much")
    row = rows([*[duets.launch("board", PAIR, n, [[2, 1]]) for n in range(3)], trouble])[1]
    assert row.state == "measured"
    assert row.notes[-1] == "throughput: memory: too much"
