"""Trials: which nodes of a model a recipe's search looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.debug.trial import Trials
from harness.quantize import matrix
from harness.quantize.context import BuildContext
from harness.quantize.model.model import read_model
from harness.study.specs import VariantSpec
from harness.study.study import ModelSection, Study
from harness.study.variants import VariantsSection


def trials(folder: Path, **fields: Any) -> Trials:
    """Trials on a model of one Gather, one MatMul, one Gemm and one Relu."""
    rng = np.random.default_rng(1)
    weights = {"w": (64, 64), "g": (64, 64), "b": (64,), "t": (32, 64)}
    nodes = [
        helper.make_node("Gather", ["t", "i"], ["taken"], "gather"),
        helper.make_node("MatMul", ["taken", "w"], ["h"], "matmul"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "g", "b"], ["y"], "gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("i", TensorProto.INT64, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 64])],
        [numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in weights.items()],
    )
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    spec = VariantSpec.model_validate(fields)
    study = Study(name="t", model=ModelSection(path=path), variants=VariantsSection(methods=[]), variant=[spec])
    work = folder / "work"
    work.mkdir(exist_ok=True)
    evaluation: Any = None  # of which only trials that are scored have a use
    return Trials(matrix.plan(study)[-1], BuildContext(read_model(path), {}, work), evaluation)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"method": "nbits"}, {"matmul", "gemm"}),
        ({"method": "nbits", "format": "QOperator"}, {"matmul", "gemm"}),
        ({"method": "dynamic"}, {"gather", "matmul", "gemm"}),
        ({"method": "dynamic", "op_types": ["MatMul"]}, {"matmul", "gemm"}),
        ({"method": "static", "format": "QOperator", "op_types": ["Gemm", "Dropout"]}, {"gemm"}),
        ({"method": "static", "op_types": ["Gemm", "Relu"]}, {"gemm", "relu"}),
        ({"method": "nbits", "exclude_nodes": ["gemm"]}, {"matmul"}),
        ({"method": "fp16"}, {"gather", "matmul", "relu", "gemm"}),
    ],
)
def test_the_nodes_are_those_that_the_method_works_on(tmp_path: Path, fields: dict[str, Any], wanted: set[str]) -> None:
    assert {node.name for node in trials(tmp_path, **fields).nodes()} == wanted
