"""onnxruntime loads a model with a dilated AveragePool between quantized nodes, with all of its optimizations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from onnx import NodeProto

    from tests.quantize.steps.conftest import Bench

KINDS = (
    '[variants]\nmethods = ["static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8", "QInt8"]\nweights = ["QInt8"]\n'
)
BETWEEN: dict[str, list[NodeProto]] = {
    "nothing": [node("Identity", "p", "r")],
    "transpose": [node("Transpose", "p", "r", perm=[0, 1, 3, 2])],
    "max pool": [node("MaxPool", "p", "r", kernel_shape=[2, 2])],
    "slice": [node("Slice", "p first last", "r")],
    "reshapes": [node("Reshape", "p flat", "f"), node("Reshape", "f back", "r")],
}


@pytest.mark.parametrize("between", BETWEEN)
def test_a_dilated_pool_is_not_joined(bench: Bench, between: str) -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("AveragePool", "a", "p", "the pool", kernel_shape=[2, 2], dilations=[2, 2]),
        *BETWEEN[between],
        node("Conv", "r v", "y"),
        node("Conv", "y u", "z"),
    ]
    constants = {
        "w": weights(6, 3, 3, 3),
        "v": weights(4, 6, 1, 1),
        "u": weights(4, 4, 1, 1),
        "first": np.array([0, 0, 0, 0]),
        "last": np.array([1, 6, 7, 7]),
        "flat": np.array([1, 6, 64]),
        "back": np.array([1, 6, 8, 8]),
    }
    bench.save(model(nodes, {"x": [1, 3, 12, 12]}, ["z"], constants, opset=19), x=samples(16, 3, 12, 12))
    variants = bench.build(KINDS)
    found = bench.fidelity(variants)
    assert min(found.values()) > 25, found
    assert all(any("'the pool'" in note for note in each.notes) for name, each in variants.items() if name.startswith("static"))
