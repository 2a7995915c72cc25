from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization.calibrate import HistogramCollector

from harness.quantize.calibration.histograms import Bins, Histograms, count, extremes_of, in_order

# Numbers as activations have them: many zeros, many at a limit, others of any size.
NUMBERS = st.one_of(
    st.just(0.0),
    st.just(-0.0),
    st.just(6.0),
    st.floats(-(2.0**99), 2.0**99, width=32),
    st.floats(-8, 8, width=16),
    st.integers(-4, 4),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(NUMBERS, min_size=1, max_size=60),
    st.sampled_from([1, 2, 7, 128, 2048]),
    st.booleans(),
    st.sampled_from(["float32", "float16"]),
)
def test_counts_are_numpys(numbers: list[float], bins: int, absolute: bool, dtype: str) -> None:
    with np.errstate(over="ignore"):
        values = np.array(numbers, dtype=dtype)
    values = values[np.isfinite(values)]
    counted = np.abs(values) if absolute else values
    try:
        with np.errstate(all="ignore"):
            expected, edges = np.histogram(counted, bins=bins)
    except (ValueError, IndexError):
        return  # numpy can't make so many bins of so narrow a range, or overflows
    found = count(in_order(values), edges.astype(dtype), absolute=absolute)
    assert found.dtype == expected.dtype
    assert found.tolist() == expected.tolist()


def test_what_lies_outside_is_not_counted() -> None:
    values = np.array([np.nan, -2, -1, 0, 1, 2, np.nan], dtype=np.float32)
    edges = np.array([-1, 0, 1], dtype=np.float32)
    assert count(in_order(values), edges).tolist() == np.histogram(values, bins=2, range=(-1, 1))[0].tolist() == [1, 2]


def test_float16_is_put_in_order() -> None:
    """numpy 2.4 leaves some of it out of order on AVX-512, where there are zeros of both signs."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        values = (np.round(rng.standard_normal(3000) * 4) / 8 * 6).astype(np.float16)
        assert (np.diff(in_order(values)) >= 0).all()


@pytest.mark.parametrize("values", [[-3.0, 0.5, 2.0], [1.0, 4.0], [-4.0, -1.0], [7.0]])
def test_extremes(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    low, high, nearest = extremes_of(array.reshape(1, -1))
    assert (low, high, nearest) == (min(values), max(values), extremes_of(array)[2])
    assert abs(nearest) == np.abs(array).min()
    assert extremes_of(array).dtype == np.float32


def test_no_values_have_no_extremes() -> None:
    assert extremes_of(np.zeros((0, 3), dtype=np.float16)).shape == (0,)
    assert extremes_of(np.array([np.nan, 2.0, -1.0], dtype=np.float32)).tolist() == [-1.0, 2.0, 1.0]


@pytest.mark.parametrize("absolute", [False, True])
def test_samples_of_any_shape_give_the_histogram_of_all_at_once(absolute: bool) -> None:
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal((n, 3)).astype(np.float32) * np.float32(10.0 ** (n - 4)) for n in (1, 5, 2)]
    together = np.concatenate([sample.ravel() for sample in samples])
    collector = HistogramCollector("percentile", absolute, 128, 128, 99.9, "same")
    collector.collect({"t": together})
    found = Histograms(Bins(128, absolute), {"t": extremes_of(np.concatenate([extremes_of(sample) for sample in samples]))})
    for sample in samples:
        found.add("t", in_order(sample))
    for one, other in zip(found.found["t"], collector.histogram_dict["t"], strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
