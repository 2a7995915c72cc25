"""Biases and weights that are computed, and constants without numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.quantize.steps.conftest import run
from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from onnx import NodeProto

    from tests.quantize.steps.conftest import Bench

ALL = '[variants]\nmethods = ["dynamic", "static"]\nactivations = ["QUInt8", "QInt8"]\nweights = ["QInt8"]\nper_channel = [false, true]\n'
STORED = {
    "w": weights(6, 3, 3, 3),
    "u": weights(6, 6, 1, 1, seed=2),
    "half": np.float32(0.5),
    "g": weights(6, 6, seed=3),
    "none": np.zeros((6, 0), np.float32),
}
STEM = node("Conv", "x w", "a", "stem")
MEAN = node("ReduceMean", "a", "mean", axes=[0, 2, 3], keepdims=0)
CASES: dict[str, tuple[list[NodeProto], bool]] = {
    "bias": ([STEM, MEAN, node("Conv", "a u mean", "y", "here")], True),
    "bias of Gemm": ([STEM, MEAN, node("Unsqueeze", "mean zero", "row"), node("Gemm", "row g mean", "y", "here")], True),
    "bias of ConvTranspose": ([STEM, MEAN, node("ConvTranspose", "a u mean", "y", "here")], False),
    "weight": (
        [
            STEM,
            node("Mul", "u half", "u2"),
            node("Abs", "x", "x2"),
            node("ReduceMean", "x2", "m", keepdims=1),
            node("Mul", "u m", "v"),
            node("Conv", "a v", "y", "here"),
        ],
        False,
    ),
    "weight beside a bias": (
        [
            STEM,
            node("Abs", "x", "x2"),
            node("ReduceMean", "x2", "m", keepdims=1),
            node("Mul", "u m", "v"),
            node("Conv", "a v bias", "y", "here"),
        ],
        True,
    ),
    "weight and bias": (
        [
            STEM,
            MEAN,
            node("Abs", "x", "x2"),
            node("ReduceMean", "x2", "m", keepdims=1),
            node("Mul", "u m", "v"),
            node("Conv", "a v mean", "y", "here"),
        ],
        True,
    ),
    "empty": (
        [
            STEM,
            MEAN,
            node("Unsqueeze", "mean zero", "row"),
            node("MatMul", "row none", "e", "here"),
            node("MatMul", "row g", "f"),
            node("Concat", "e f", "y", axis=1),
        ],
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_computed(bench: Bench, case: str) -> None:
    nodes, told = CASES[case]
    stored = {**STORED, "zero": np.array([0]), "bias": weights(6, seed=8)}
    bench.save(model(nodes, {"x": [1, 3, 8, 8]}, ["y"], stored), x=samples(8, 3, 8, 8))
    variants = bench.build(ALL)
    assert {name: each.reason for name, each in variants.items() if each.path is None} == {}
    assert not any("fails" in note for each in variants.values() for note in each.notes)
    assert any("'here'" in note for each in variants.values() for note in each.notes if "computed-operands" in note) == told
    found = bench.fidelity(variants)
    assert min(found.values()) > 20, found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_spoils_nothing_else(bench: Bench, value: float) -> None:
    weight = weights(64, 8)
    weight[3, 5] = value
    nodes = [node("MatMul", "x v", "a"), node("MatMul", "a u", "y", "here")]
    bench.save(model(nodes, {"x": [1, 64]}, ["y"], {"v": weights(64, 64), "u": weight}), x=samples(16, 64))
    variants = bench.build(
        '[variants]\nmethods = ["dynamic", "static", "nbits"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
    )
    feed = {"x": samples(1, 64)}
    (wanted,) = run(bench.folder / "m.onnx", feed)
    for name, made in variants.items():
        if made.path is None:
            assert made.state == "impossible", made.reason
            continue
        (found,) = run(made.path, feed)
        assert (np.isfinite(found) == np.isfinite(wanted)).all(), name
        assert name == "fp32" or any(
            "'here' stays in float" in note and "'u' holds NaN or infinity" in note for note in made.notes
        ), name
