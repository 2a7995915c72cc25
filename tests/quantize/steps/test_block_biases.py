"""Biases beside weights in blocks, and normalizations, stay in float."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from tests.quantize.steps.conftest import Bench


@pytest.mark.parametrize("weight", ["QInt4", "QUInt4", "QUInt8"])
@pytest.mark.parametrize("between", ["Relu", "LayerNormalization"])
def test_a_bias_beside_blocks(bench: Bench, between: str, weight: str) -> None:
    stored = {"w": weights(32, 64), "b": weights(32), "v": weights(32, 16), "scale": weights(32, seed=5) + 1}
    middle = node(between, "h scale" if between == "LayerNormalization" else "h", "g")
    nodes = [node("Gemm", "x w b", "h", "fc", transB=1), middle, node("MatMul", "g v", "y", "last")]
    bench.save(model(nodes, {"x": [1, 64]}, ["y"], stored, opset=21), x=samples(8, 64))
    text = f'[[variant]]\nname = "v"\nmethod = "static"\nactivation = "QUInt16"\nweight = "{weight}"\nextra_options = {{ BlockSize = 16 }}\n'
    variants = bench.build('[variants]\nmethods = ["fp32"]\n' + text)
    assert any("'fc'" in note for note in variants["v"].notes)
    assert bench.fidelity(variants)["v"] > 15
