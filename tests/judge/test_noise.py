"""How small a slowdown a device can tell, what disturbs it, and what is advised."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from harness.judge import decision, noise
from harness.judge.intervals import grouped
from harness.judge.timing import Timing
from harness.measure.launch import Launch
from harness.records.assemble import assemble
from harness.records.run import DeviceRecord
from tests import duets
from tests.report.runs import FAST, FP32, case, finish, variant

if TYPE_CHECKING:
    from harness.judge.noise import Noise

from harness.devices.device import Device

PAIR = ("c0", "c1")
CASES = [case("c0", FP32), case("c1", FAST)]
LEVEL, ITERATIONS = 10_000_000, 20


def timing(spread: float, processes: int, **pair: Any) -> Timing:
    """Launches of two identical models of 10 ms whose blocks differ by so much."""
    chance = random.Random(3)
    record = DeviceRecord(entry=Device(name="board", host="h"))
    run = finish([], record, variants=[variant(FP32), variant(FAST)], cases=CASES).run
    events = []
    for number in range(processes):
        rebuilds = [
            duets.rebuild(duets.pair([[round(LEVEL * (1 + chance.gauss(0, spread)))] * ITERATIONS for _ in PAIR], **pair))
            for _ in range(4)
        ]
        events.append(Launch.model_validate({**duets.line(PAIR, number, *rebuilds), "device": "board"}))
    return Timing("board", assemble(run, events).launches, {}, {each.id: each.name for each in CASES})


def of(spread: float, processes: int, **pair: Any) -> Noise:
    found = noise.of(timing(spread, processes, **pair), PAIR, 2)
    assert found is not None
    return found


def test_more_time_tells_less_and_more_noise_tells_less() -> None:
    short, long = (floor.slowdown for floor in of(0.01, 30).floors)
    assert short is not None
    assert long is not None
    assert 0 < long < short
    quiet = of(0.001, 30).floors[1].slowdown
    assert quiet is not None
    assert quiet < long / 5


def test_the_floor_is_what_the_gate_finds_in_95_of_100_cases() -> None:
    chance = random.Random(5)
    groups = [[chance.gauss(0, 0.01) for _ in range(4)] for _ in range(400)]
    floor = noise.smallest(groups, 5)
    assert floor is not None
    found = 0
    for _ in range(400):
        drawn = [[value + floor for value in group] for group in chance.choices(groups, k=5)]
        estimate = grouped(drawn, decision.LEVEL)
        assert estimate is not None
        assert estimate.low is not None
        found += estimate.low > 1
    assert found / 400 == pytest.approx(0.95, abs=0.04)


def test_three_processes_that_take_longer_tell_nothing() -> None:
    assert noise.smallest([[0.0, 0.1]] * 9, 2) is None
    assert noise.of(timing(0.01, 2), PAIR, 2) is None


def test_a_figure_for_much_longer_than_was_measured_has_a_caution() -> None:
    short, long = of(0.01, 3), of(0.01, 60)
    assert "extrapolated from 3 launches" in (short.extrapolated or "")
    assert short.as_json()["extrapolated"] == short.extrapolated
    assert long.extrapolated is None


def test_what_disturbs_is_told_with_what_to_do() -> None:
    calm = of(0.01, 4)
    assert calm.advice == ()
    assert calm.disturbed == {"any": 0.0}
    assert (calm.stolen, calm.interrupts, calm.khz, calm.celsius) == (None, None, None, None)
    wall = 2 * LEVEL * ITERATIONS
    bad = of(
        0.01, 4, disturbed=["cpu"], switches=[4, 4],
        before={"steal_ns": 0, "interrupts": 0, "khz": 1_000_000}, after={"steal_ns": wall // 10, "interrupts": 8000, "khz": 2_000_000},
    )  # fmt: skip
    assert bad.disturbed == {"any": 1.0, "cpu": 1.0}
    assert bad.stolen == pytest.approx(0.05, rel=0.1)
    assert bad.khz == (2_000_000, 2_000_000)
    first, second, third = bad.advice
    assert first.startswith("other processes used the processor during 100 % of the blocks: stop them")
    assert second == "the hypervisor took 5.0 % of the time: use a machine with dedicated cores"
    assert "interrupts per second on average" in third
    assert bad.as_json()["smallest_slowdown"].keys() == {"10", "60"}


def test_the_noise_of_a_run_is_how_far_replicates_lie_apart() -> None:
    calm, loud = (noise.of_run(timing(spread, 10), [PAIR, ("c1",)]) for spread in (0.002, 0.02))
    assert calm is not None
    assert loud is not None
    # Of a ratio: √2 times that of each side; two thirds of a normal distribution lie within one standard deviation.
    assert calm == pytest.approx(0.002 * 2**0.5, rel=0.35)
    assert loud == pytest.approx(0.02 * 2**0.5, rel=0.35)
    assert noise.of_run(timing(0.01, 1), [PAIR]) is None
