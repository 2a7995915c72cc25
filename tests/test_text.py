"""Shares in per cent, for people."""

from __future__ import annotations

import pytest

from harness.text import percent


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0 %"),
        (1e-9, "<0.001 %"),
        (0.00012, "0.012 %"),
        (0.005, "0.5 %"),
        (0.0425, "4.2 %"),
        (0.0994, "9.9 %"),
        (0.09951, "10 %"),
        (0.999, "100 %"),
        (1.0, "100 %"),
        (3.9, "390 %"),
        (123.4, "12340 %"),
        (-0.02, "-2 %"),
    ],
)
def test_a_share_has_two_digits_and_no_exponent(share: float, words: str) -> None:
    assert percent(share) == words
