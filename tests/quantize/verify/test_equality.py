"""Two runs are the same but for the order of additions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.quantize.verify.equality import ratio, same

ONES = np.ones(100, np.float32)
NAN, INFINITE = np.array([1, np.nan], np.float32), np.array([1, np.inf], np.float32)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (ONES, ONES, True),
        (ONES, ONES * np.float32(1 + 3e-7), True),
        (ONES, ONES * np.float32(1.001), False),
        (ONES.astype(np.float16), ONES.astype(np.float16) * np.float16(1.001), True),
        (ONES, ONES[:50], False),
        (np.zeros(4), np.zeros(4), True),
        (np.zeros(4), np.full(4, 1e-300), False),
        (np.full(4, 1e200), np.full(4, 1e200), True),
        (np.full(4, 1e200), np.full(4, 2e200), False),
        (NAN, NAN, True),
        (NAN, INFINITE, False),
        (INFINITE, -INFINITE, False),
        (NAN, ONES[:2], False),
        (np.array([1, 2]), np.array([1, 2]), True),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.empty(0, np.float32), np.empty(0, np.float32), True),
        ([ONES], [ONES], True),
        ([ONES], [ONES, ONES], False),
        ({1: 0.5}, {1: 0.5}, True),
        ({1: 0.5}, {1: 0.25}, False),
        (math.nan, math.nan, True),
        (np.array(["a"]), np.array(["b"]), False),
    ],
)
def test_same(first: Any, second: Any, *, expected: bool) -> None:
    assert same(first, second) is expected


def test_a_ratio_in_decibels() -> None:
    assert ratio(ONES.astype(np.float64), ONES * 1.01) == pytest.approx(40.0, abs=0.1)
