"""Simulated iterations of known truth, through the same code as real ones: the intervals hold what they say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.devices.device import Device
from harness.records.assemble import assemble
from harness.records.run import DeviceRecord
from tests import duets
from tests.report.runs import FAST, FP32, case, finish, variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from harness.records.run import Run

from harness.judge.timing import Timing
from harness.measure.launch import Launch

TRUTH, LEVEL = 1.25, 1_000_000
RUNS, PROCESSES, REBUILDS, PAIRS, ITERATIONS = 200, 6, 4, 3, 9
CASES = [case("c0", FP32), case("c1", FAST)]
Noise = "Callable[[np.random.Generator, int], NDArray[np.float64]]"


def independent(chance: np.random.Generator, count: int) -> NDArray[np.float64]:
    return chance.normal(0, 0.02, count)


def autocorrelated(chance: np.random.Generator, count: int) -> NDArray[np.float64]:
    steps = chance.normal(0, 0.02, count)
    for index in range(1, count):
        steps[index] += 0.6 * steps[index - 1]
    return steps


def heavy_tailed(chance: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.abs(chance.standard_t(2, count)) * 0.02


def process(chance: np.random.Generator, number: int, noise: Callable[..., NDArray[np.float64]], *, bimodal: bool) -> Launch:
    """A launch: where a session's memory lies moves all of a rebuild, and in some machines a process is fast or slow as a whole."""
    rebuilds = []
    mode = 0.03 * (chance.random() < 0.5) if bimodal else 0.0
    for _ in range(REBUILDS):
        places = chance.normal(0, 0.015, 2)
        pairs = []
        for _ in range(PAIRS):
            drift = chance.normal(0, 0.01)
            blocks = [
                (level * np.exp(place + drift + noise(chance, ITERATIONS))).astype(int).tolist()
                for level, place in zip((LEVEL * TRUTH * math.exp(mode), LEVEL), places, strict=True)
            ]
            pairs.append(duets.pair(blocks))
        rebuilds.append(duets.rebuild(*pairs))
    return Launch.model_validate({**duets.line(["c0", "c1"], number, *rebuilds), "device": "board"})


@pytest.fixture(scope="module")
def empty() -> Run:
    record = DeviceRecord(entry=Device(name="board", host="h"))
    return finish([], record, variants=[variant(FP32), variant(FAST)], cases=CASES).run


@pytest.mark.long
@pytest.mark.parametrize("noise", [independent, autocorrelated, heavy_tailed])
@pytest.mark.parametrize("bimodal", [False, True], ids=["alike", "bimodal"])
def test_intervals_of_ratios_and_levels_cover_the_truth(
    empty: Run, noise: Callable[..., NDArray[np.float64]], bimodal: bool
) -> None:
    chance = np.random.default_rng(11)
    # Of a process that is fast or slow by 3 %, the truth is the mean of the logarithms.
    truth = TRUTH * math.exp(0.015 * bimodal)
    # All blocks have the same noise: its median is the same factor in both, and known from many.
    shift = float(np.median(np.concatenate([noise(chance, ITERATIONS) for _ in range(20_000)])))
    hits = {"ratio": 0, "level": 0}
    for _ in range(RUNS):
        run = assemble(empty, [process(chance, number, noise, bimodal=bimodal) for number in range(PROCESSES)])
        timing = Timing("board", run.launches, {}, {each.id: each.name for each in CASES})
        ratio, level = timing.ratio(("c0", "c1")), timing.level("c1")
        assert ratio is not None
        assert level is not None
        hits["ratio"] += (ratio.low or 0) <= truth <= (ratio.high or 0)
        hits["level"] += (level.low or 0) <= LEVEL * math.exp(shift) / 1e6 <= (level.high or 0)
    # 200 runs: the standard error of a share of 95 % is 1.5 %.
    assert all(0.905 <= count / RUNS <= 1.0 for count in hits.values()), hits
