from __future__ import annotations

import math
import runpy

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from harness.judge.intervals import Estimate, geometric, grouped, quotient, spread
from harness.paths import RUNNERS

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


def test_the_larger_standard_error_decides() -> None:
    alike = grouped([[0.0, 0.3], [0.2, 0.1], [0.1, 0.2]])
    assert alike is not None
    # Six replicates without the largest and the smallest: 0.1, 0.1, 0.2, 0.2. The winsorized squares are 6 * 0.05², so Yuen's error is
    # √(0.015 / (4 * 3)), and t(0.975, 3) = 3.182446.
    assert math.log(alike.value) == pytest.approx(0.15)
    assert math.log(alike.high or 0) == pytest.approx(0.15 + 3.182446305284263 * math.sqrt(0.015 / 12))
    apart = grouped([[0.0, 0.1], [0.2, 0.3], [0.1, 0.2]])
    assert apart is not None
    # The same replicates; the sums of the winsorized ones of a process are -0.1, 0.1 and 0. Over processes, with t(0.975, 2) = 4.302653 and
    # the factor 3 / 2 * 5 / 6 for few of them.
    assert math.log(apart.high or 0) == pytest.approx(0.15 + 4.302652729911275 * math.sqrt(0.02 * 3 / 2 * 5 / 6 / 12))
    assert (alike.n, alike.processes) == (6, 3)


def test_what_is_far_off_does_not_move_the_estimate() -> None:
    calm = [[0.01, -0.01, 0.0, 0.02], [0.0, 0.01, -0.02, 0.0], [0.01, 0.0, -0.01, 0.0]]
    wild = [[0.01, -0.01, 0.0, 5.0], [0.0, 0.01, -0.02, 0.0], [0.01, 0.0, -7.0, 0.0]]
    quiet, busy = grouped(calm), grouped(wild)
    assert quiet is not None
    assert busy is not None
    assert busy.value == pytest.approx(quiet.value, abs=0.005)
    assert (busy.half_width or 9) < 0.02


def test_a_clock_so_coarse_that_most_replicates_are_the_same_leaves_an_interval() -> None:
    found = grouped([[0.0, 0.0, 0.0, 0.1], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert found is not None
    assert found.value == pytest.approx(math.exp(0.1 / 12))
    assert (found.low or 9) < 1 < (found.high or 0)


def test_two_processes_allow_no_interval_however_many_replicates() -> None:
    found = grouped([[0.0] * 6, [0.1] * 6])
    assert found is not None
    assert (found.low, found.high, found.n, found.processes) == (None, None, 12, 2)
    assert grouped([]) is None
    assert grouped([[], []]) is None


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=8), min_size=1, max_size=12))
def test_the_device_stops_by_the_interval_that_is_printed(groups: list[list[float]]) -> None:
    job = runpy.run_path(str(RUNNERS / "job" / "precision.py"))
    table = [float(stats.t.ppf(0.975, freedom)) for freedom in range(1, 201)]
    found = grouped(groups)
    assert found is not None
    reach = job["half_width"](groups, table)
    if found.high is None:
        assert reach == math.inf
    else:
        assert reach == pytest.approx(math.log(found.high / found.value), rel=1e-6, abs=1e-9)


@given(st.lists(st.lists(st.floats(), min_size=1, max_size=4), min_size=3, max_size=6))
@example([[math.nan], [0.0], [1.0]])
@example([[math.inf], [-math.inf], [1.0]])
@example([[1e308, -1e308], [1e308], [0.5]])
@example([[1e99], [-1e99], [0.0]])
@example([[5e-324], [0.0], [1.0]])
def test_the_device_and_the_controller_agree_for_every_float(groups: list[list[float]]) -> None:
    job = runpy.run_path(str(RUNNERS / "job" / "precision.py"))
    (centre, error, _), (device_centre, device_error, _) = spread(groups), job["spread"](groups)
    assert (error is None) == (device_error is None)
    if error is None:
        assert math.isnan(centre)
        assert math.isnan(device_centre)
        assert grouped(groups) is None
        return
    size = max(abs(value) for group in groups for value in group)
    assert device_centre == pytest.approx(centre, rel=1e-6, abs=1e-9 * size)
    assert device_error == pytest.approx(error, rel=1e-6, abs=1e-9 * size)
    found = grouped(groups)
    assert found is not None
    assert found.low is not None
    assert not math.isnan(found.low)


@pytest.mark.parametrize("apart", [0.0, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("processes", [3, 4, 8])
def test_grouped_intervals_cover_the_truth_however_much_processes_differ(apart: float, processes: int) -> None:
    chance = np.random.default_rng(7)
    hits, trials = 0, 1500
    for _ in range(trials):
        groups = chance.normal(size=(processes, 6)) + apart * chance.normal(size=(processes, 1))
        found = grouped(groups.tolist())
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1 <= found.high
    assert 0.92 <= hits / trials <= 0.985


def test_a_quotient_adds_in_quadrature() -> None:
    found = quotient(Estimate(6.0, 6 / 1.03, 6 * 1.03, 9), Estimate(2.0, 2 / 1.04, 2 * 1.04, 7))
    assert found.value == 3
    assert math.log((found.high or 0) / 3) == pytest.approx(math.hypot(math.log(1.03), math.log(1.04)))
    assert quotient(Estimate(6.0, None, None, 1), Estimate(2.0, 1.9, 2.1, 7)).low is None
