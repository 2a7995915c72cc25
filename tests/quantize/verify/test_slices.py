"""The worst slice and the worst sample, against a plain computation, and dead parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness.quantize.verify.fidelity import Fidelity, compare
from harness.quantize.verify.parts import Part
from harness.quantize.verify.slices import kind_axes
from tests.quantize.verify import reference

RNG = np.random.default_rng(11)
SHAPES = array_shapes(min_dims=2, max_dims=4, max_side=6)
VALUES = st.floats(-100, 100, width=32) | st.just(0.0)


@st.composite
def both(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """[samples, …] of fp32 and of a variant, of which some values are equal and some not finite."""
    shape = draw(SHAPES)
    ref = draw(arrays(np.float32, shape, elements=VALUES))
    noise = draw(
        arrays(np.float32, shape, elements=st.floats(-1, 1, width=32) | st.just(0.0) | st.sampled_from([np.nan, np.inf]))
    )
    return ref, ref + noise


def of(ref: np.ndarray, x: np.ndarray, batch: int | None = None) -> Fidelity:
    return compare([[ref]], [[x]], names=["y"], batch=batch)


@given(both())
def test_the_worst_slice_is_that_of_a_plain_computation(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ref, x = pair
    power = reference.mean_power(ref, x)
    found = of(ref, x).worst_slice
    known = {
        (axis, index): reference.sqnr(r, v, power, constant=reference.is_constant(r, v))
        for axis, index, r, v in reference.slices(ref, x)
        if np.sum(np.isfinite(r) & np.isfinite(v)) >= 4
    }
    # Rows that are probabilities have classes that do not count.
    if any(np.allclose(ref.sum(axis=axis), 1, atol=2e-3) for axis in range(1, ref.ndim)):
        return
    worst = min(known.values(), default=math.inf)
    if found is None:
        assert worst == math.inf
        return
    assert found.sqnr_db == pytest.approx(worst, abs=1e-6)
    assert found.axis is not None
    assert found.first is not None
    assert found.first == found.last
    assert known[found.axis, found.first] == pytest.approx(worst, abs=1e-6)


@given(both())
def test_the_worst_sample_is_that_of_a_plain_computation(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ref, x = pair
    power = reference.mean_power(ref, x)
    known = [
        reference.sqnr(r, v, power) if np.sum(np.isfinite(r) & np.isfinite(v)) >= 4 else math.inf
        for r, v in zip(ref, x, strict=True)
    ]
    found = of(ref, x).worst_sample
    if found is None:
        assert len(ref) == 1 or min(known) == math.inf
    else:
        assert found.sqnr_db == pytest.approx(min(known), abs=1e-6)
        assert found.sample is not None
        assert known[found.sample] == pytest.approx(min(known), abs=1e-6)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_no_whole_is_worse_than_its_worst_part(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ref = rng.uniform(1, 100, shape)
    found = of(ref, ref + rng.normal(size=shape))
    assert found.sqnr_db is not None
    for part in (found.worst_slice, found.worst_sample):
        if part is not None and ref[0].size >= 4:
            assert part.sqnr_db is not None
            assert part.sqnr_db <= found.sqnr_db + 1e-9
    assert found.merit <= found.sqnr_db


@given(both(), st.randoms(use_true_random=False))
def test_the_order_of_samples_changes_no_figure(pair: tuple[np.ndarray, np.ndarray], random: object) -> None:
    ref, x = pair
    order = list(range(len(ref)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = of(ref, x), of(ref[order], x[order])
    same(one, other)
    if one.worst_sample is not None and other.worst_sample is not None:
        assert one.worst_sample.sqnr_db == pytest.approx(other.worst_sample.sqnr_db)


@given(both())
def test_how_samples_are_cut_into_feeds_changes_no_figure(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ref, x = pair
    one = of(ref, x)
    cut = compare([[r[None]] for r in ref], [[v[None]] for v in x], names=["y"], batch=1)
    same(one, cut)
    alone = compare([[r] for r in ref], [[v] for v in x], names=["y"], batch=len(ref) + 1000)
    assert same(one, alone)
    if one.worst_sample is not None:
        assert cut.worst_sample is not None
        assert cut.worst_sample.sample == one.worst_sample.sample


def same(one: Fidelity, other: Fidelity) -> bool:
    for key in ("sqnr_db", "mse", "max_error", "cosine", "merit", "dead_share"):
        assert getattr(one, key) == pytest.approx(getattr(other, key), nan_ok=True), key
    for key in ("nan_count", "inf_count", "values", "unequal_count", "identical"):
        assert getattr(one, key) == getattr(other, key), key
    slices = one.worst_slice, other.worst_slice
    assert [part.sqnr_db for part in slices if part] == pytest.approx([one.worst_slice.sqnr_db] * 2 if one.worst_slice else [])
    return [(p.first, p.last, p.fixed) for p in one.dead] == [(p.first, p.last, p.fixed) for p in other.dead]


def boxes_and_scores(samples: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """[samples, 4 box coordinates and 6 scores, 64 positions], and the same rounded to a 255th of the largest coordinate."""
    ref = np.concatenate([RNG.uniform(0, 640, (samples, 4, 64)), RNG.uniform(0, 1, (samples, 6, 64))], axis=1).astype(np.float32)
    return ref, np.round(ref / (640 / 255)) * np.float32(640 / 255)


@pytest.mark.parametrize("samples", [1, 4, 64])
def test_scores_beside_boxes_are_named(samples: int) -> None:
    ref, x = boxes_and_scores(samples)
    found = of(ref, x, batch=samples)
    assert found.dead == (Part("y", axis=1, first=4, last=9, kind="slice", dead=True, noun="row"),)
    assert found.notes == ("rows 4–9 of y are constant in this variant but vary in fp32",)
    assert found.dead_share == pytest.approx(0.6)
    assert found.sqnr_db is not None
    assert found.sqnr_db > 40
    assert found.merit < -100


@pytest.mark.parametrize(
    ("shape", "axis", "name"),
    [
        ((1, 64, 10), 2, "columns 4–9 of y"),
        ((16, 10), 1, "entries 4–9 along axis 1 of y"),
        ((1, 10, 8, 9), 1, "channels 4–9 of y"),
        ((1, 8, 9, 10), 3, "entries 4–9 along axis 3 of y"),
    ],
)
def test_slices_are_named_by_their_axis(shape: tuple[int, ...], axis: int, name: str) -> None:
    ref = RNG.normal(size=shape)
    x = ref + 1e-3
    np.moveaxis(x, axis, 0)[4:10] = 0
    found = of(ref, x, batch=shape[0])
    assert {part.axis for part in found.dead} == {axis}
    assert f"{name} are constant in this variant but vary in fp32" in found.notes


def test_rows_of_an_output_without_batch() -> None:
    ref = RNG.normal(size=(20, 6))
    x = ref.copy()
    x[:, 5] = 3
    found = of(ref, x, batch=1)
    assert [part.sentence for part in found.dead] == ["column 5 of y is constant in this variant but varies in fp32"]


def test_runs_are_merged_and_many_are_counted() -> None:
    ref = RNG.normal(size=(8, 40, 50))
    x = ref.copy()
    x[:, [1, 2, 5, 7, 9, 11, 13, 15, 17]] = 0
    assert of(ref, x, 8).notes == (
        "rows 1–2, 5, 7, 9, 11, 13 and 2 more runs of y are constant in this variant but vary in fp32",
    )
    x[:] = 0
    assert of(ref, x, 8).notes == ("y is constant in this variant but varies in fp32",)


def test_values_that_no_input_changes() -> None:
    """A detector that adds nothing to its anchors: its boxes differ by position, but not from sample to sample."""
    anchors = np.tile(np.linspace(0, 640, 64), (4, 1))
    ref = np.concatenate([anchors + RNG.normal(size=(16, 4, 64)), RNG.uniform(0, 600, (16, 6, 64))], axis=1)
    x = ref.copy()
    x[:, :4] = anchors
    found = of(ref, x, 16)
    assert found.notes[0] == "rows 0–3 of y are the same for all samples in this variant but vary in fp32"
    assert found.merit < -100
    embedding = RNG.normal(size=(16, 512))
    collapsed = of(embedding, np.tile(embedding[:1], (16, 1)), 16)
    assert collapsed.notes == ("y is the same for all samples in this variant but varies in fp32",)


@pytest.mark.parametrize(
    "constant",
    [
        pytest.param(0.0, id="padding"),
        pytest.param(1.0, id="a constant channel"),
        pytest.param(np.float32(0.1), id="rounded constant"),
    ],
)
def test_what_is_constant_in_fp32_is_not_dead_and_its_noise_counts_beside_the_output(constant: float) -> None:
    ref = RNG.normal(size=(16, 40, 32))
    ref[:, 3] = constant
    x = ref + 1e-3 * RNG.normal(size=ref.shape)
    found = of(ref, x, 16)
    assert found.dead == ()
    assert found.notes == ()
    assert found.worst_slice is not None
    assert (found.worst_slice.sqnr_db or 0) > 35
    x[:, 3] += RNG.normal(size=(16, 32))
    assert "row 3 of y has an SQNR of" in of(ref, x, 16).notes[0]


def test_rounding_of_float32_is_no_variation() -> None:
    ref = RNG.normal(size=(16, 4, 32)).astype(np.float32)
    ref[:, 2] = 1 + 1e-7 * RNG.normal(size=(16, 32))
    x = ref.copy()
    x[:, 2] = 1
    assert of(ref, x, 16).dead == ()
    # A row that is a trillionth of the others is none either.
    ref[:, 2] = 1e-12 * RNG.normal(size=(16, 32))
    x[:, 2] = 0
    found = of(ref, x, 16)
    assert found.dead == ()
    assert found.notes == ()


def test_one_value_alone_says_nothing() -> None:
    ref, x = RNG.normal(size=(1, 10)), np.zeros((1, 10))
    assert of(ref, x + np.arange(10), 1).dead == ()
    few = RNG.normal(size=(3, 10))
    assert of(few, few * 0 + np.arange(10), 3).dead == ()
    many = RNG.normal(size=(16, 10))
    assert [part.fixed for part in of(many, many * 0 + np.arange(10), 16).dead] == [True]
    stuck = many.copy()
    stuck[:, 3] = 0.5
    assert of(many, stuck, 16).notes[0] == "entry 3 along axis 1 of y is constant in this variant but varies in fp32"


def test_classes_that_are_never_likely_are_not_dead() -> None:
    """An 8-bit Softmax gives 0 to all classes below 1/510: that is no fault of one that fp32 never takes for likely."""
    logits = RNG.normal(size=(64, 10))
    logits[:, 7] -= 12
    ref = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    x = np.round(ref * 255) / 255
    assert (x[:, 7] == 0).all()
    found = of(ref, x, 64)
    assert found.dead == ()
    assert found.worst_slice is None or found.worst_slice.first != 7
    x[:, 3] = 0
    assert [(part.first, part.last) for part in of(ref, x, 64).dead] == [(3, 3)]


def test_one_loud_sample_hides_quiet_ones() -> None:
    ref = RNG.normal(size=(8, 10)) * np.array([100, 1, 1, 1, 1, 1, 1, 1])[:, None]
    x = ref + 0.3 * RNG.normal(size=ref.shape)
    found = of(ref, x, batch=8)
    assert found.sqnr_db is not None
    assert found.worst_sample is not None
    assert found.worst_sample.sqnr_db is not None
    assert found.worst_sample.sqnr_db < found.sqnr_db - 10
    assert found.worst_sample.sample != 0
    assert (
        f"sample {found.worst_sample.sample} of y has an SQNR of {found.worst_sample.sqnr_db:.1f} dB, y as a whole"
        in found.notes[-1]
    )
    # Two feeds of four samples: the numbers go on.
    cut = compare([[ref[:4]], [ref[4:]]], [[x[:4]], [x[4:]]], names=["y"], batch=4)
    assert cut.worst_sample == found.worst_sample


def test_an_axis_whose_size_changes_is_not_sliced() -> None:
    ref = [[RNG.normal(size=(1, 5, length))] for length in (7, 9, 7)]
    x = [[values[0].copy()] for values in ref]
    for values in x:
        values[0][:, 2] = 0
    found = compare(ref, x, names=["y"], batch=1)
    assert [(part.axis, part.first, part.last) for part in found.dead] == [(1, 2, 2)]


def test_integer_outputs_can_be_dead() -> None:
    labels = np.arange(16) % 3
    found = compare([[labels]], [[np.zeros_like(labels)]], names=["label"], batch=16)
    assert found.notes == ("label is constant in this variant but varies in fp32",)
    assert found.equal == pytest.approx(6 / 16)
    assert found.outputs[0].equal == found.equal
    assert found.sqnr_db is None
    flags = labels > 0
    assert compare([[flags]], [[np.ones_like(flags)]], names=["flag"]).dead[0].output == "flag"


def test_of_several_outputs_the_worst_counts() -> None:
    good, bad = RNG.normal(size=(16, 4, 100)), RNG.normal(size=(16, 4, 2))
    found = compare([[good, bad]], [[good + 1e-4, bad + 0.5]], names=["good", "bad"], batch=16)
    assert {each.name: round(each.sqnr_db or 0) for each in found.outputs}["good"] == 80
    assert found.sqnr_db == found.outputs[1].sqnr_db
    assert found.worst_slice is not None
    assert found.worst_slice.output == "bad"
    assert found.as_json()["worst_slice"]["output"] == "bad"


def test_a_sample_without_values_keeps_its_number() -> None:
    """A detector that finds nothing in the first picture."""
    ref = [[RNG.normal(size=(count, 6))] for count in (0, 3, 2)]
    x = [[values[0] + scale] for values, scale in zip(ref, (0, 0.01, 1), strict=True)]
    found = compare(ref, x, names=["boxes"], batch=1)
    assert found.worst_sample is not None
    assert found.worst_sample.sample == 2


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        pytest.param((), set(), id="a number"),
        pytest.param((10,), {0}, id="classes"),
        pytest.param((10, 64), {0, 1}, id="coordinates and scores by place"),
        pytest.param((10, 10), {0, 1}, id="as many places as rows"),
        pytest.param((1, 8400, 85), {2, 1}, id="an axis of 1 is none"),
        pytest.param((1, 160, 160), set(), id="a heat map"),
        pytest.param((17, 64, 48), {0}, id="channels first, oblong"),
        pytest.param((255, 20, 20), {0}, id="more channels than places"),
        pytest.param((80, 80, 85), {2}, id="channels last"),
        pytest.param((3, 80, 80, 85), {0, 3}, id="anchors and channels"),
        pytest.param((120, 160, 21), {0, 2}, id="channels last, oblong"),
    ],
)
def test_axes_of_kinds(shape: tuple[int, ...], kinds: set[int]) -> None:
    assert kind_axes(shape) == kinds


def test_the_border_of_a_heat_map_is_not_dead() -> None:
    place = np.linspace(-1, 1, 160)
    bump = np.exp(-20 * (place[:, None] ** 2 + place[None] ** 2))
    ref = (bump * RNG.uniform(0.9, 1, (8, 1, 1)))[:, None]
    x = np.round(ref * 255) / 255
    assert (x[:, :, 0] == 0).all()
    assert of(ref, x, 8).dead == ()
    # A map of which a third is lost is no matter of rounding.
    x[:, :, 60:100] = 0
    assert {part.axis for part in of(ref, x, 8).dead} == {2}


def test_square_outputs_have_kinds_too() -> None:
    ref = np.concatenate([RNG.uniform(0, 640, (16, 4, 10)), RNG.uniform(0, 1, (16, 6, 10))], axis=1)
    found = of(ref, np.round(ref / 2.5) * 2.5, 16)
    assert found.notes[0] == "rows 4–9 of y are constant in this variant but vary in fp32"


@given(both(), st.data())
def test_dead_slices_are_those_of_a_plain_computation(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    """Slices along axis 1 that hypothesis chooses are made constant."""
    ref, x = pair
    ref = ref + np.arange(ref.size).reshape(ref.shape) % 7  # so that most slices vary
    x = np.nan_to_num(x, posinf=0)
    for index in data.draw(st.sets(st.integers(0, ref.shape[1] - 1))):
        x[:, index] = 3
    expected = {(axis, index) for axis, index, r, v in reference.slices(ref, x) if r.size >= 16 and reference.is_dead(r, v, ref)}
    found = of(ref, x)
    named = {
        (part.axis, index)
        for part in found.dead
        if part.kind == "slice" and not part.fixed
        for index in range(part.first or 0, (part.last or 0) + 1)
    }
    if any(part.kind == "output" for part in found.dead):
        return
    kinds = {axis + 1 for axis in kind_axes(ref.shape[1:])}
    assert {each for each in named if x.take(each[1], axis=each[0]).size >= 16} <= expected
    missed = {each for each in expected - named if each[0] in kinds and not found.dead}
    assert not missed or any(np.allclose(ref.sum(axis=axis), 1, atol=2e-3) for axis, _ in missed)


def test_a_long_vector_has_dead_entries_but_no_worst_one() -> None:
    """Boxes and scores of a detector, flattened."""
    ref = np.concatenate([RNG.uniform(0, 640, (32, 256)), RNG.uniform(0, 1, (32, 384))], axis=1)
    x = np.round(ref / 2.5) * 2.5
    found = of(ref, x, 32)
    assert found.worst_slice is None
    assert found.notes == ("entries 256–639 along axis 1 of y are constant in this variant but vary in fp32",)
    # A few tags of thousands that are never likely are no fault.
    tags = RNG.uniform(0, 1, (32, 5000))
    tags[:, 100:200] /= 1000
    assert of(tags, np.round(tags * 255) / 255, 32).dead == ()
