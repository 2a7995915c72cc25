from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge.intervals import Estimate
from harness.report import numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0.0, "0.00"), (1.0, "1.00"), (123.4, "123"), (0.0012345, "0.00123"), (0.00012345, "1.23e-04"), (12345.0, "12345")],
)  # fmt: skip
def test_number(value: float | None, expected: str) -> None:
    assert numbers.number(value) == expected


@pytest.mark.parametrize(("count", "expected"), [(None, "–"), (999, "1.0 kB"), (999_999, "1000.0 kB"), (12_340_000, "12.34 MB")])
def test_size(count: int | None, expected: str) -> None:
    assert numbers.size(count) == expected


def test_shares() -> None:
    assert numbers.percent(0.98765) == "98.77 %"
    assert (numbers.points(0.01), numbers.points(-0.01), numbers.points(0.0)) == ("+1.00 pp", "-1.00 pp", "0.00 pp")
    assert (numbers.percent(None), numbers.points(None)) == ("–", "–")


def test_an_estimate_without_an_interval_is_marked() -> None:
    assert numbers.estimate(Estimate(1.5, None, None, 2), "×") == "1.50× [?]"
    assert numbers.estimate(Estimate(1.5, 1.4, 1.6, 5)) == "1.50 [1.40, 1.60]"
    assert numbers.estimate(Estimate(1.0, 1.0, 1.0, 5)) == "1.00 [1.00, 1.00]"
    assert numbers.estimate(None) == "–"


@given(st.floats(0.01, 900), st.floats(2e-4, 0.5))
def test_the_ends_of_an_interval_can_be_told_apart(value: float, half: float) -> None:
    text = numbers.estimate(Estimate(value, value * (1 - half), value * (1 + half), 5))
    low, high = text.split(" [")[1].rstrip("]").split(", ")
    assert low != high
