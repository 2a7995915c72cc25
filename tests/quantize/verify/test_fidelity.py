from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness.errors import DataError
from harness.quantize.verify.fidelity import Fidelity, compare

FLOATS = arrays(np.float32, array_shapes(max_dims=3, max_side=6), elements=st.floats(-100, 100, width=32))


def noisy(scale: float) -> Fidelity:
    rng = np.random.default_rng(0)
    reference = [rng.standard_normal((4, 10)) for _ in range(3)]
    noise = [rng.standard_normal((4, 10)) for _ in range(3)]
    return compare([[r] for r in reference], [[r + scale * n] for r, n in zip(reference, noise, strict=True)])


@given(FLOATS)
def test_identity(values: np.ndarray) -> None:
    found = compare([[values]], [[values.copy()]])
    assert (found.mse, found.max_error, found.sqnr_db, found.identical) == (0.0, 0.0, math.inf, True)
    assert found.cosine == pytest.approx(1.0)
    assert found.as_json()["sqnr_db"] is None


@given(st.floats(1e-6, 1e3))
def test_ten_times_the_noise_is_20_db_less(scale: float) -> None:
    small, large = noisy(scale), noisy(10 * scale)
    assert small.sqnr_db is not None
    assert large.sqnr_db is not None
    assert small.sqnr_db - large.sqnr_db == pytest.approx(20, abs=1e-3)
    assert small.mse is not None
    assert large.mse == pytest.approx(100 * small.mse, rel=1e-3)


@given(FLOATS, st.floats(0.125, 8, width=32))
def test_cosine_does_not_see_scale(values: np.ndarray, scale: float) -> None:
    found = compare([[values.astype(np.float64)]], [[values.astype(np.float64) * scale]])
    assert found.cosine == pytest.approx(1.0)


@given(FLOATS)
def test_how_feeds_are_cut_does_not_matter(values: np.ndarray) -> None:
    other = values + np.float32(0.5)
    whole = compare([[values]], [[other]])
    cut = compare([[v] for v in values[:, None]], [[v] for v in other[:, None]])
    assert cut.mse == pytest.approx(whole.mse)
    assert cut.max_error == whole.max_error


def test_by_hand() -> None:
    reference = [{"y": np.array([[3.0, 4.0]], np.float32), "n": np.array([1])}]
    candidate = [{"n": np.array([1]), "y": np.array([[3.0, 3.0]], np.float32)}]
    found = compare(reference, candidate)
    assert found.mse == 0.5
    assert found.max_error == 1.0
    assert found.sqnr_db == pytest.approx(10 * math.log10(25 / 1))
    assert found.cosine == pytest.approx(21 / (5 * math.sqrt(18)))
    assert found.identical is False


def test_classes() -> None:
    reference = [[np.array([[0.1, 0.9], [0.8, 0.2]])], [np.array([[0.3, 0.7]])]]
    candidate = [[np.array([[0.2, 0.8], [0.4, 0.6]])], [np.array([[0.3, 0.7]])]]
    found = compare(reference, candidate, np.array([1, 1, 0]))
    assert found.top1_agreement == pytest.approx(2 / 3)
    assert found.top1_accuracy == pytest.approx(2 / 3)
    assert compare(reference, reference).top1_accuracy is None
    with pytest.raises(DataError, match="2 labels for 3 rows"):
        compare(reference, candidate, np.array([1, 1]))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 3, 4)])
def test_no_classes(shape: tuple[int, ...]) -> None:
    values = np.ones(shape, np.float32)
    found = compare([[values]], [[values]], np.zeros(4, np.int64))
    assert (found.top1_agreement, found.top1_accuracy) == (None, None)


def test_kl_divergence_by_hand() -> None:
    # Softmax of log-probabilities gives them back: p = (1/2, 1/2), q = (1/4, 3/4).
    logits = compare([[np.log([[0.5, 0.5]]) + 7]], [[np.log([[0.25, 0.75]]) - 3]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert logits.kl_divergence == pytest.approx(expected)
    assert not logits.probabilities
    as_they_are = compare([[np.array([[0.5, 0.5]])]], [[np.array([[0.25, 0.75]])]])
    assert as_they_are.kl_divergence == pytest.approx(expected)
    assert as_they_are.probabilities


def test_kl_divergence_is_a_mean_over_rows_of_all_feeds() -> None:
    reference, candidate = [np.array([[0.5, 0.5], [0.5, 0.5]])], [np.array([[0.25, 0.75], [0.5, 0.5]])]
    one = compare([reference], [candidate]).kl_divergence
    assert one is not None
    assert compare([reference, reference], [candidate, reference]).kl_divergence == pytest.approx(one / 2)
    positions = compare([[reference[0][None]]], [[candidate[0][None]]])
    assert positions.kl_divergence == pytest.approx(one)
    assert positions.top1_agreement is None


@given(arrays(np.float64, (3, 5), elements=st.floats(-50, 50)), arrays(np.float64, (3, 5), elements=st.floats(-50, 50)))
def test_kl_divergence_is_never_negative_and_zero_for_the_same(one: np.ndarray, other: np.ndarray) -> None:
    found = compare([[one]], [[other]]).kl_divergence
    assert found is not None
    assert found >= 0
    assert compare([[one]], [[one]]).kl_divergence == 0


def test_probabilities_that_rounding_made_zero_are_finite() -> None:
    # As an 8-bit Softmax gives them: small classes are 0, and the sum is not quite 1.
    found = compare([[np.array([[0.99, 0.009, 0.001]], np.float32)]], [[np.array([[0.98, 0.0, 0.0]], np.float32)]])
    assert found.probabilities
    assert found.kl_divergence is not None
    assert 0 < found.kl_divergence < 1


@pytest.mark.parametrize(
    "outputs", [[np.ones((2, 1))], [np.ones(3)], [np.ones((1, 2, 3, 4))], [np.ones((0, 3))], [np.array([1])]]
)
def test_no_kl_divergence_without_classes(outputs: list[np.ndarray]) -> None:
    assert compare([outputs], [outputs]).kl_divergence is None


def test_nan_and_infinity_are_counted_and_stay_out_of_json() -> None:
    reference = [[np.array([[1.0, 2.0, 3.0]])]]
    found = compare(reference, [[np.array([[1.0, np.nan, np.nan]])]])
    assert found.nan_count == 2
    assert not found.identical
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["sqnr_db"] is None
    assert (found.values, found.unequal_count, found.mse) == (3, 2, 0.0)
    assert found.notes == ("2 of 3 output values are not finite in this variant (fp32: none)",)
    assert found.kl_divergence is None
    endless = compare(reference, [[np.array([[1.0, np.inf, 3.0]])]])
    assert (endless.inf_count, endless.nan_count, endless.max_error) == (1, 0, 0.0)
    nothing = compare(reference, [[np.full((1, 3), np.nan)]])
    assert (nothing.sqnr_db, nothing.cosine) == (-math.inf, 0.0)
    assert nothing.merit < endless.merit < -100
    json.dumps(endless.as_json(), allow_nan=False)


def test_silent_reference() -> None:
    zeros = [[np.zeros((1, 3))]]
    assert compare(zeros, zeros).cosine == 1.0
    found = compare(zeros, [[np.ones((1, 3))]])
    assert (found.sqnr_db, found.cosine) == (-math.inf, 0.0)
    assert found.notes == ("output 0 is 0 everywhere in fp32 and differs from 0 by up to 1 in this variant, so it has no SQNR",)
    # Values so small that their squares vanish are no zeros.
    assert "is 0 everywhere" not in " ".join(compare([[np.full((1, 3), 1e-30)]], [[np.ones((1, 3))]]).notes)


def test_integers_only() -> None:
    found = compare([[np.array([1, 2])]], [[np.array([1, 3])]])
    assert (found.mse, found.sqnr_db, found.identical) == (None, None, False)


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        ([[np.ones(2)]], [], "outputs for 0 feeds, the reference for 1"),
        ([[np.ones(2)]], [[np.ones(3)]], r"feed 0, output 0: the variant's shape is \[3\], the reference's \[2\]"),
        ([[np.ones(2)]], [[np.ones(2), np.ones(2)]], "the variant has 2 outputs, the reference 1"),
        ([{"a": np.ones(2)}], [{"b": np.ones(2)}], "the variant's outputs are b, the reference's a"),
        ([{"a": np.ones(2)}], [[np.ones(2)]], "only one has names"),
    ],
)
def test_outputs_that_do_not_pair(reference: list[object], candidate: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        compare(reference, candidate)  # type: ignore[arg-type]


def test_needs_only_numpy() -> None:
    code = "import sys, harness.quantize.verify.fidelity; print([m for m in ('onnx', 'onnxruntime', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shape", [(8, 5, 1, 1), (8, 1, 1, 5), (8, 1, 5, 1)])
def test_classes_with_further_axes_of_one(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    ref, x = (rng.normal(size=(8, 5)) for _ in range(2))
    plain, shaped = (compare([[ref.reshape(each)]], [[x.reshape(each)]]) for each in ((8, 5), shape))
    assert (shaped.top1_agreement, shaped.kl_divergence) == (plain.top1_agreement, plain.kl_divergence)
    assert plain.kl_divergence is not None
