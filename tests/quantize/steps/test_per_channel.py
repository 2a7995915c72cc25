"""Weights that can't have a scale for each channel are made all the same, and the node is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from onnx import NodeProto

    from tests.quantize.steps.conftest import Bench

PER_CHANNEL = (
    '[variants]\nmethods = ["dynamic", "static"]\nactivations = ["QUInt8", "QInt8"]\nweights = ["QInt8"]\nper_channel = [true]\n'
)
SPREAD = np.exp(np.random.default_rng(7).normal(size=16)).astype(np.float32)
ROWS = [1, 4, 16]
IMAGE = [1, 8, 6, 6]
# What is made, the shape of the input, the weights, and whether a node can't have a scale for each channel.
CASES: dict[str, tuple[NodeProto, list[int], dict[str, Any], bool]] = {
    "experts": (node("MatMul", "x w", "y", "here"), [3, 4, 16], {"w": weights(3, 16, 8)}, True),
    "one leading axis": (node("MatMul", "x w", "y", "here"), ROWS, {"w": weights(1, 16, 8)}, True),
    "two leading axes": (node("MatMul", "x w", "y", "here"), [1, 3, 4, 16], {"w": weights(1, 3, 16, 8)}, True),
    "a vector": (node("MatMul", "x w", "y", "here"), ROWS, {"w": weights(16)}, True),
    "a matrix": (node("MatMul", "x w", "y", "here"), ROWS, {"w": weights(16, 8)}, False),
    "a matrix on the left": (node("MatMul", "w x", "y", "here"), [1, 16, 4], {"w": weights(4, 16) * SPREAD}, False),
    "three axes on the left": (node("MatMul", "w x", "y", "here"), [1, 16, 4], {"w": weights(3, 5, 16)}, True),
    "grouped upsampling": (
        node("ConvTranspose", "x w b", "y", "here", group=4),
        IMAGE,
        {"w": weights(8, 2, 3, 3), "b": weights(8)},
        True,
    ),
    "depthwise upsampling": (
        node("ConvTranspose", "x w b", "y", "here", group=8),
        IMAGE,
        {"w": weights(8, 1, 3, 3), "b": weights(8)},
        True,
    ),
    "grouped without a bias": (node("ConvTranspose", "x w", "y", "here", group=4), IMAGE, {"w": weights(8, 2, 3, 3)}, False),
    "upsampling": (node("ConvTranspose", "x w b", "y", "here"), IMAGE, {"w": weights(8, 6, 3, 3), "b": weights(6)}, False),
    "depthwise": (node("Conv", "x w b", "y", "here", group=8), IMAGE, {"w": weights(8, 1, 3, 3), "b": weights(8)}, False),
    "one dimension": (node("Conv", "x w b", "y", "here"), [1, 3, 9], {"w": weights(8, 3, 3), "b": weights(8)}, False),
    "three dimensions": (
        node("Conv", "x w b", "y", "here"),
        [1, 3, 5, 5, 5],
        {"w": weights(8, 3, 3, 3, 3), "b": weights(8)},
        False,
    ),
    "a dead channel": (
        node("Conv", "x w", "y", "here"),
        IMAGE,
        {"w": weights(8, 8, 3, 3) * (np.arange(8) % 2)[:, None, None, None]},
        False,
    ),
    "nothing but zeros": (node("Conv", "x w b", "y", "here"), IMAGE, {"w": np.zeros((8, 8, 3, 3)), "b": weights(8)}, False),
    "a turned input": (node("Gemm", "x w b", "y", "here", transA=1), [1, 1], {"w": weights(1, 8), "b": weights(8)}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_every_weight(bench: Bench, case: str) -> None:
    made, shape, stored, unfit = CASES[case]
    stored = {name: np.asarray(array, np.float32) for name, array in stored.items()}
    bench.save(model([made], {"x": shape}, ["y"], stored), x=samples(8 * shape[0], *shape[1:]))
    variants = bench.build(PER_CHANNEL)
    assert {name: each.reason for name, each in variants.items() if each.path is None} == {}
    assert not any("fails" in note or "not load" in note for each in variants.values() for note in each.notes)
    told = [any("per-tensor-weights" in note and "'here'" in note for note in each.notes) for each in variants.values()]
    assert any(told) == unfit, [each.notes for each in variants.values()]
    if shape[0] == 1:
        found = bench.fidelity(variants)
        assert min(found.values()) > 25, found


def test_unsigned_integers_on_the_left(bench: Bench) -> None:
    """onnxruntime takes a zero point for each row of a MatMul's left side nowhere."""
    made = node("MatMul", "w x", "y", "here")
    bench.save(model([made], {"x": [1, 16, 4]}, ["y"], {"w": weights(4, 16) + np.float32(0.2)}), x=samples(8, 16, 4))
    variants = bench.build(
        PER_CHANNEL.replace('weights = ["QInt8"]', 'weights = ["QUInt8"]').replace('["QUInt8", "QInt8"]', '["QUInt8"]')
    )
    assert min(bench.fidelity(variants).values()) > 25
    assert any("per-tensor-weights" in note and "'here'" in note for note in variants["static-QDQ-U8U8-pc"].notes)


def test_a_user_may_choose_an_axis(bench: Bench) -> None:
    """TensorQuantOverrides name it, and are obeyed."""
    stored = {"w": weights(8, 2, 3, 3)}
    made = node("ConvTranspose", "x w", "y", "here", group=4)
    bench.save(model([made], {"x": IMAGE}, ["y"], stored), x=samples(8, *IMAGE[1:]))
    text = (
        '[[variant]]\nname = "v"\nmethod = "static"\nactivation = "QUInt8"\nweight = "QInt8"\n'
        "extra_options = { TensorQuantOverrides = { w = [{ axis = 0, symmetric = true }] } }\n"
    )
    variant = bench.build('[variants]\nmethods = ["fp32"]\n' + text)["v"]
    assert variant.path is not None
    assert not any("per-tensor-weights" in note for note in variant.notes)
