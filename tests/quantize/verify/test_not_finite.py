"""NaN and infinity: counted on both sides, equal where both have them, and no figure of the rest is spoiled."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness.quantize.verify.fidelity import compare

RNG = np.random.default_rng(12)
INF, NAN = np.inf, np.nan


def suppressed(rows: int = 16) -> np.ndarray:
    """Logits of which every fifth class is suppressed, as Whisper's decoder does it."""
    logits = RNG.normal(size=(rows, 20))
    logits[:, ::5] = -INF
    return logits


def test_equal_infinities_are_equal() -> None:
    ref = suppressed()
    found = compare([[ref]], [[ref.copy()]], names=["y"])
    assert (found.identical, found.sqnr_db, found.kl_divergence, found.top1_agreement) == (True, math.inf, 0.0, 1.0)
    assert (found.inf_count, found.reference_inf_count, found.unequal_count, found.values) == (64, 64, 0, 320)
    assert found.notes == ()
    assert found.merit == math.inf


def test_the_rest_is_compared() -> None:
    ref = suppressed()
    x = ref + 0.01
    kept = np.isfinite(ref)
    found = compare([[ref]], [[x]], names=["y"])
    assert found.sqnr_db == pytest.approx(compare([[ref[kept]]], [[x[kept]]]).sqnr_db)
    assert found.max_error == pytest.approx(0.01)
    assert found.kl_divergence == pytest.approx(0, abs=1e-9)
    assert found.notes == ()
    scaled = compare([[ref]], [[np.where(kept, ref * 1.1, ref)]]).kl_divergence
    plain = compare([[ref[:, 1:5]]], [[1.1 * ref[:, 1:5]]]).kl_divergence
    assert scaled is not None
    assert plain is not None
    assert 0 < scaled < 1


def test_values_that_only_the_variant_has_not_finite() -> None:
    ref = RNG.normal(size=(16, 20))
    x = ref.copy()
    x[:, 3], x[0, 5], x[1, 5] = -INF, NAN, INF
    found = compare([[ref]], [[x]], names=["y"])
    assert found.notes == ("18 of 320 output values are not finite in this variant (fp32: none)",)
    assert (found.nan_count, found.inf_count, found.unequal_count) == (1, 17, 18)
    assert found.merit < -100
    assert found.kl_divergence == math.inf
    json.dumps(found.as_json(), allow_nan=False)


def test_infinity_of_the_other_sign_and_a_finite_value_instead() -> None:
    ref = np.array([[INF, -INF, 1.0, 2.0, 3.0]])
    found = compare([[ref]], [[np.array([[-INF, 5.0, 1.0, 2.0, 3.0]])]], names=["y"])
    assert found.unequal_count == 2
    assert found.notes == ("1 of 5 output values are not finite in this variant (fp32: 2)",)


def test_nan_in_both_is_equal() -> None:
    ref = np.array([[NAN, 1.0, 2.0, 3.0]])
    found = compare([[ref]], [[ref.copy()]])
    assert (found.identical, found.unequal_count, found.nan_count, found.reference_nan_count) == (True, 0, 1, 1)
    assert found.notes == ()


def test_nothing_that_can_be_compared() -> None:
    ref = RNG.normal(size=(4, 5))
    lost = compare([[ref]], [[np.full((4, 5), NAN)]], names=["y"])
    assert (lost.sqnr_db, lost.cosine) == (-math.inf, 0.0)
    assert lost.notes == ("20 of 20 output values are not finite in this variant (fp32: none)",)
    assert (lost.top1_agreement, lost.kl_divergence) == (0.0, None)
    both = compare([[np.full((4, 5), -INF)]], [[np.full((4, 5), -INF)]])
    assert (both.sqnr_db, both.identical, both.unequal_count) == (math.inf, True, 0)


def test_a_row_of_nan_agrees_with_no_class() -> None:
    """The argmax of a row of NaN is 0, and so is that of a row whose first class is the largest."""
    ref = np.array([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0]])
    x = np.array([[NAN, 1.0], [-INF, -INF], [1.0, 2.0]])
    found = compare([[ref]], [[x]], np.array([0, 0, 1]))
    assert found.top1_agreement == pytest.approx(1 / 3)
    assert found.top1_accuracy == pytest.approx(1 / 3)
    # Nor can a row that names no class in fp32 be agreed with.
    other = compare([[x]], [[ref]], np.array([0, 0, 1]))
    assert other.top1_agreement == 1.0
    assert other.top1_accuracy == 1.0
    assert compare([[x[:2]]], [[ref[:2]]]).top1_agreement is None


def test_more_values_that_are_not_finite_have_less_merit() -> None:
    ref = RNG.normal(size=(16, 20))
    merits = []
    for count in (0, 1, 2, 10, 20):
        x = ref + 1e-3
        x[:, :count] = NAN
        merits.append(compare([[ref]], [[x]]).merit)
    assert merits == sorted(merits, reverse=True)
    assert len(set(merits)) == 5


def test_a_slice_of_nan_is_counted_and_not_dead() -> None:
    ref = RNG.normal(size=(16, 4, 8))
    x = ref + 1e-3
    x[:, 2] = NAN
    found = compare([[ref]], [[x]], names=["y"])
    assert found.dead == ()
    assert found.worst_slice is not None
    assert found.worst_slice.first != 2 or found.worst_slice.axis != 1


ANY = st.floats(width=32) | st.sampled_from([0.0, -0.0, INF, -INF, NAN, 1e-30, 65504.0])
HUGE = st.floats() | st.sampled_from([1e300, -1e300, 1e-300])
SHAPES = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@given(arrays(np.float32, SHAPES, elements=ANY) | arrays(np.float64, SHAPES, elements=HUGE), st.sampled_from([None, 1, 3]))
def test_whatever_the_values_are_they_are_equal_to_themselves(values: np.ndarray, batch: int | None) -> None:
    found = compare([[values]], [[values.copy()]], batch=batch)
    assert (found.identical, found.unequal_count, found.dead, found.notes) == (True, 0, (), ())
    assert found.merit == math.inf
    json.dumps(found.as_json(), allow_nan=False)


@given(st.data(), SHAPES, st.sampled_from([None, 1, 3]))
def test_any_two_outputs_can_be_compared(data: st.DataObject, shape: tuple[int, ...], batch: int | None) -> None:
    """Without a warning, which would be an error here, and without a figure that can't be sorted."""
    ref, x = (data.draw(arrays(np.float64, shape, elements=HUGE)) for _ in range(2))
    found = compare([[ref]], [[x]], batch=batch)
    assert not math.isnan(found.merit)
    assert found.identical == np.array_equal(ref, x, equal_nan=True)
    json.dumps(found.as_json(), allow_nan=False)
