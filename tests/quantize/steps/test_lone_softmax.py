"""A Softmax over a single value gives 1 in every variant, also where only some samples have a single one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from tests.quantize.steps.conftest import Bench

KINDS = (
    '[variants]\nmethods = ["static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8", "QInt8"]\nweights = ["QInt8"]\n'
)
CONSTANTS = {"wk": weights(8, 8), "wv": weights(8, 8, seed=4), "wo": weights(8, 5, seed=5), "axis": np.array([1])}
PROJECTED = [node("MatMul", "x wk", "k"), node("MatMul", "x wv", "v")]
ATTENTION = [
    node("Transpose", "keys", "t", perm=[0, 2, 1]),
    node("MatMul", "x t", "scores"),
    node("Softmax", "scores", "p", "the softmax", axis=2),
    node("MatMul", "p values", "mixed"),
    node("MatMul", "mixed wo", "y"),
]
PAST = [node("Concat", "past_k k", "keys", axis=1), node("Concat", "past_v v", "values", axis=1)]


@pytest.mark.parametrize("opset", [11, 17])
def test_an_axis_of_one(bench: Bench, opset: int) -> None:
    renamed = [node("Identity", "k", "keys"), node("Identity", "v", "values")]
    made = model([*PROJECTED, *renamed, *ATTENTION], {"x": [1, 1, 8]}, ["y"], CONSTANTS, opset=opset)
    bench.save(made, x=samples(8, 1, 1, 8))
    variants = bench.build(KINDS)
    assert min(bench.fidelity(variants).values()) > 25
    told = {name: [note for note in each.notes if "lone-softmax" in note] for name, each in variants.items()}
    assert {name for name, notes in told.items() if notes} == {"static-QDQ-U8S8", "static-QDQ-S8S8", "static-QOperator-U8S8"}
    assert all("'the softmax'" in notes[0] for notes in told.values() if notes)


def test_behind_a_past_that_was_not_empty_when_it_was_calibrated(bench: Bench) -> None:
    made = model(
        [*PROJECTED, *PAST, *ATTENTION], {"x": [1, 1, 8], "past_k": [1, "past", 8], "past_v": [1, "past", 8]}, ["y"], CONSTANTS
    )
    bench.save(made, x=samples(8, 1, 1, 8), past_k=samples(8, 1, 3, 8, seed=6), past_v=samples(8, 1, 3, 8, seed=7))
    variants = bench.build(KINDS, dims={"past": [3]})
    assert any("lone-softmax" in note for note in variants["static-QDQ-U8S8"].notes)


def test_other_models_are_left_as_they_are(bench: Bench) -> None:
    renamed = [node("Identity", "k", "keys"), node("Identity", "v", "values")]
    made = model([*PROJECTED, *renamed, *ATTENTION], {"x": [1, "steps", 8]}, ["y"], CONSTANTS)
    bench.save(made, x=samples(8, 1, 4, 8))
    variants = bench.build(KINDS, dims={"steps": [4]})
    assert not any("lone-softmax" in note for each in variants.values() for note in each.notes)
