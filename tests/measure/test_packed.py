"""Packed samples: decoded as the format says, and refused where a board sends anything else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.measure.packed import Samples, decode

STEPS = st.lists(st.integers(-(2**61), 2**61), min_size=1, max_size=50)


def encoded(steps: list[int]) -> bytes:
    """One number after the other, as the format is told in words."""
    out = bytearray()
    for step in steps:
        value = 2 * step if step >= 0 else -2 * step - 1
        while value >= 128:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def samples(data: bytes, count: int, base: int = 0, unit: int = 1) -> Samples:
    return Samples(base=base, unit=unit, count=count, data=base64.b64encode(data).decode())


@given(STEPS)
def test_what_was_encoded_is_decoded(steps: list[int]) -> None:
    assert decode(encoded(steps), len(steps)).tolist() == steps


def test_a_block_is_its_base_and_steps_of_a_unit() -> None:
    found = samples(encoded([0, -3, 5]), 3, base=100, unit=10)
    assert found.nanoseconds.tolist() == [100, 70, 150]
    assert found == samples(encoded([0, -3, 5]), 3, base=100, unit=10)


@pytest.mark.parametrize(
    ("data", "count", "base", "unit"),
    [
        (b"", 1, 0, 1),
        (encoded([1, 2]), 1, 0, 1),
        (encoded([1, 2]), 3, 0, 1),
        (b"\x01\x80", 1, 0, 1),
        (b"\x01\x80", 2, 0, 1),
        (b"\x80" * 9 + b"\x01" + b"\x01" * 9, 10, 0, 1),
        (b"\x80" * 1000 + b"\x01", 1, 0, 1),
        (encoded([-1]), 1, 0, 1),
        (encoded([2**61]), 1, 0, 2**30),
        (encoded([-(2**61)]), 1, 2**62, 2**30),
        (encoded([1]), 1, 2**63 - 1, 1),
    ],
    ids=["empty", "more", "fewer", "no end", "no end, but as many", "ten groups", "endless", "negative", "too long", "too short", "one too many"],
)  # fmt: skip
def test_anything_else_is_damaged(data: bytes, count: int, base: int, unit: int) -> None:
    with pytest.raises(ValidationError, match="the samples are damaged"):
        samples(data, count, base, unit)
