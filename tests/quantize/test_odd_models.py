"""Models that are valid but unusual, and once broke a recipe: found by hypothesis and by the onnx package's backend tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness import study as studies
from harness.quantize import prepare
from harness.quantize.build import build
from harness.quantize.model import open_model
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.recipe import Variant


def made(path: Path, **dims: list[int]) -> dict[str, Variant]:
    variants = build(studies.for_model(path, dims=dims), path.parent / "out")
    assert {variant.state for variant in variants} == {"made", "impossible"}, [variant.reason for variant in variants]
    return {variant.name: variant for variant in variants}


@pytest.mark.parametrize("ir_version", [3, 8])
def test_initializers_that_are_inputs(tmp_path: Path, ir_version: int) -> None:
    """Up to IR version 3 they had to be; what tools add to such a model is none, so it was never valid."""
    proto = onnx.load(tiny_cnn(tmp_path / "m.onnx", opset=11))
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    proto.ir_version = ir_version
    onnx.save(proto, tmp_path / "m.onnx")
    found = prepare.prepare(open_model(tmp_path / "m.onnx"), tmp_path)
    assert (found.rung, [value.name for value in found.proto.graph.input]) == ("default", ["x"])
    for name, variant in made(tmp_path / "m.onnx", batch=[1]).items():
        if variant.path:
            session = onnxruntime.InferenceSession(variant.path, providers=["CPUExecutionProvider"])
            assert session.run(None, {"x": np.ones((1, 1, 8, 8), np.float32)})[0].shape == (1, 3), name


def test_transposed_weights_whose_shape_is_said_twice(tmp_path: Path) -> None:
    """A Constant node that the preparation folds leaves its output's shape behind, and the dynamic tool transposes the weights."""
    weights = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["w"], "weights", value=numpy_helper.from_array(weights)),
        helper.make_node("Gemm", ["x", "w"], ["y"], "gemm", transB=1),
    ]
    proto = make_model(nodes, {"x": [1, 5]}, {"y": [1, 3]})
    proto.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 5]))
    onnx.save(proto, tmp_path / "m.onnx")
    variants = made(tmp_path / "m.onnx")
    assert variants["dynamic-S8"].path
    assert "MatMulInteger" in {node.op_type for node in onnx.load(variants["dynamic-S8"].path).graph.node}
