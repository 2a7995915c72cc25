from __future__ import annotations

import math

import numpy as np
import pytest

from harness.judge import decision


def groups(shift: float, spread: float, count: int, seed: int) -> list[list[float]]:
    chance = np.random.default_rng(seed)
    found: list[list[float]] = (math.log1p(shift) + spread * chance.normal(size=(count, 4))).tolist()
    return found


def test_a_clear_slowdown_is_found_and_no_difference_passes() -> None:
    slower = decision.decide(groups(0.05, 0.005, 12, 1), 0.03)
    assert slower.verdict == "slower"
    assert slower.slowdown is not None
    assert slower.slowdown.value == pytest.approx(1.05, abs=0.005)
    assert slower.processes < 12
    assert decision.decide(groups(0.0, 0.005, 12, 1), 0.03).verdict == "passed"


def test_what_is_too_noisy_stays_open_and_says_what_it_could_have_seen() -> None:
    found = decision.decide(groups(0.0, 0.2, 5, 1), 0.03)
    assert (found.verdict, found.processes) == ("open", 5)
    effect = decision.smallest_effect(found.slowdown)
    assert effect is not None
    assert effect > 0.03


def test_a_slowdown_below_one_per_cent_is_none_however_sure() -> None:
    assert decision.decide(groups(0.005, 0.0005, 12, 1), 0.03).verdict == "passed"


def test_fewer_than_three_processes_decide_nothing() -> None:
    found = decision.decide(groups(0.5, 0.001, 2, 1), 0.03)
    assert (found.verdict, found.processes) == ("open", 2)
    assert decision.smallest_effect(found.slowdown) is None
    assert decision.decide([], 0.03) == decision.Decision("open", None, 0)


@pytest.mark.parametrize("apart", [0.0, 0.5])
def test_looking_again_keeps_false_alarms_below_one_per_cent(apart: float) -> None:
    chance = np.random.default_rng(3)
    trials, alarms = 2000, 0
    for _ in range(trials):
        drawn = 0.02 * (chance.normal(size=(12, 4)) + apart * chance.normal(size=(12, 1)))
        alarms += decision.decide(drawn.tolist(), 0.03).verdict == "slower"
    assert alarms / trials <= 0.012
