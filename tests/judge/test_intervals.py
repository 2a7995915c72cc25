from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge.intervals import Estimate, geometric

POSITIVE = st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=20)


def test_the_value_is_the_geometric_mean_and_the_interval_students() -> None:
    found = geometric([1.0, 2.0, 4.0])
    assert found is not None
    # t(0.975, 2) = 4.30265; the logarithms' standard error is ln 2 / sqrt(3).
    reach = 4.302652729911275 * math.log(2) / math.sqrt(3)
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2 * math.exp(-reach), 2 * math.exp(reach)))
    assert found.n == 3


@pytest.mark.parametrize(("values", "expected"), [([5.0], 5.0), ([1.0, 4.0], 2.0)])
def test_fewer_than_three_replicates_allow_no_interval(values: list[float], expected: float) -> None:
    found = geometric(values)
    assert found is not None
    assert found.value == pytest.approx(expected)
    assert (found.low, found.high, found.n) == (None, None, len(values))
    assert found.half_width is None


@pytest.mark.parametrize("values", [[], [0.0], [1.0, 0.0, 2.0]])
def test_nothing_is_known_without_values_or_from_a_clock_that_did_not_move(values: list[float]) -> None:
    assert geometric(values) is None


def test_half_width_is_relative_to_the_value() -> None:
    assert Estimate(2.0, 1.0, 3.0, 5).half_width == 0.5


def test_intervals_cover_the_truth_in_95_of_100_cases() -> None:
    chance = np.random.default_rng(20261120)
    truth, hits, trials = 3.0, 0, 4000
    for _ in range(trials):
        found = geometric(chance.lognormal(math.log(truth), 0.1, size=5).tolist())
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / trials <= 0.97


@given(POSITIVE)
def test_the_interval_holds_the_value_and_the_value_lies_among_the_replicates(values: list[float]) -> None:
    found = geometric(values)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert min(values) * (1 - 1e-9) <= found.value <= max(values) * (1 + 1e-9)


@given(POSITIVE, st.floats(0.001, 1000))
def test_the_unit_does_not_matter(values: list[float], factor: float) -> None:
    one, other = geometric(values), geometric([factor * value for value in values])
    assert one is not None
    assert other is not None
    assert other.value == pytest.approx(factor * one.value, rel=1e-9)
    assert other.half_width == pytest.approx(one.half_width, rel=1e-6, abs=1e-9)
