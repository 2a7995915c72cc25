"""Models that are valid but unusual, and once broke a recipe: found by hypothesis and by the onnx package's backend tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.quantize import prepare
from harness.quantize.build import build
from harness.quantize.model.model import open_model
from harness.quantize.planning import unsupported_nodes
from harness.study import study as studies
from harness.study.specs import variant_spec
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from collections.abc import Callable
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


def attention(path: Path) -> None:
    """Two projections and ONNX's own Attention."""
    weights = {name: np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32) for name in "qk"}
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["query"], "query"),
        helper.make_node("MatMul", ["x", "k"], ["key"], "key"),
        helper.make_node("Attention", ["query", "key", "x"], ["y"], "attention", q_num_heads=2, kv_num_heads=2),
    ]
    proto = make_model(nodes, {"x": [1, 4, 8]}, {"y": [1, 4, 8]}, weights, opset=23)
    proto.ir_version = 11
    onnx.save(proto, path)


def dilated(path: Path) -> None:
    """A convolution and a pool over every second position."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("AveragePool", ["a"], ["y"], "pool", kernel_shape=[2, 2], dilations=[2, 2]),
    ]
    proto = make_model(nodes, {"x": [1, 1, 6, 6]}, {"y": [1, 2, 2, 2]}, {"w": np.ones((2, 1, 3, 3), np.float32)}, opset=19)
    onnx.save(proto, path)


@pytest.mark.parametrize(
    ("write", "names", "op_type", "node"),
    [
        (attention, ["dynamic-S8", "dynamic-U8"], "Attention", "attention"),
        (dilated, ["static-QOperator-U8S8", "static-QOperator-U8U8"], "AveragePool", "pool"),
    ],
)
def test_nodes_that_the_tools_break_stay_in_float(
    write: Callable[[Path], None], names: list[str], op_type: str, node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    write(path)
    variants = made(path)
    for name in names:
        assert any(note.startswith(f"'{node}' stays in float") for note in variants[name].notes)
        assert not any("does not load it" in note for note in variants[name].notes)
        found = variants[name].path
        assert found
        kinds = [node.op_type for node in onnx.load(found).graph.node]
        assert op_type in kinds
        assert {"QLinearConv", "MatMulInteger"} & set(kinds)
    # What they are kept from: the tool refuses the model, or onnxruntime what the tool made, and the variant is made once more.
    monkeypatch.setattr(unsupported_nodes, "UNFIT", ())
    for variant in build(studies.for_model(path), tmp_path / "again"):
        if variant.name in names:
            assert any("in float, because quantize_" in note and op_type in note for note in variant.notes)


def test_a_mask_behind_a_quantized_operator(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Greater", ["c", "zero"], ["which"], "which"),
        helper.make_node("Where", ["which", "a", "c"], ["y"], "where"),
    ]
    weights = {"w": np.ones((2, 1, 3, 3), np.float32), "zero": np.zeros((), np.float32)}
    onnx.save(make_model(nodes, {"x": [1, 1, 6, 6], "c": [1, 2, 4, 4]}, {"y": [1, 2, 4, 4]}, weights), tmp_path / "m.onnx")
    path = made(tmp_path / "m.onnx")["static-QOperator-U8S8"].path
    assert path
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert ("QLinearConv" in kinds, "Where" in kinds) == (True, True)


@pytest.mark.parametrize(("rows", "turned"), [(3, (1, 1)), (4, (1, 0)), (4, (1, 1))])
def test_weights_that_several_gemms_transpose(rows: int, turned: tuple[int, int], tmp_path: Path) -> None:
    """The dynamic tool turns them where they lie, once for each: the square ones came out wrong without a word."""
    weights = {"w": np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], "first", transB=turned[0]),
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w"], ["b"], "second", transB=turned[1]),
        helper.make_node("Add", ["a", "b"], ["y"], "add"),
    ]
    onnx.save(make_model(nodes, {"x": [2, 4]}, {"y": [2, rows]}, weights), tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
    outputs = {}
    for name, variant in made(tmp_path / "m.onnx").items():
        if variant.path and name in {"fp32", "dynamic-S8"}:
            session = onnxruntime.InferenceSession(variant.path, providers=["CPUExecutionProvider"])
            outputs[name] = session.run(None, {"x": x})[0]
    assert np.abs(outputs["dynamic-S8"] - outputs["fp32"]).max() < 0.1 * np.abs(outputs["fp32"]).max()


def test_operators_of_onnxruntime_inside_of_an_if(tmp_path: Path) -> None:
    """With EnableSubgraph its tool writes them there, and imports them only for the main graph; silero_vad is such a model."""
    weights = {name: np.random.default_rng(0).standard_normal((1, 16, 4)).astype(np.float32) for name in ("w", "r")}
    output = [helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 1, 4])]
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], "lstm", hidden_size=4)
    lstm = helper.make_graph(
        [node], "then", [], output, [numpy_helper.from_array(array, name) for name, array in weights.items()]
    )
    mean = helper.make_node("ReduceMean", ["x"], ["h"], "mean", axes=[0])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["which"], "which"),
        helper.make_node(
            "If", ["which"], ["y"], "if", then_branch=lstm, else_branch=helper.make_graph([mean], "else", [], output)
        ),
    ]
    proto = make_model(nodes, {"x": [3, 1, 4]}, {"y": [1, 1, 4]}, {"zero": np.zeros((), np.float32)})
    onnx.save(proto, tmp_path / "m.onnx")
    study = studies.for_model(tmp_path / "m.onnx")
    specs = [variant_spec(method="dynamic"), variant_spec(method="dynamic", extra_options={"EnableSubgraph": True})]
    study = study.model_copy(update={"variants": study.variants.model_copy(update={"methods": ["fp32"]}), "variant": specs})
    _, alone, inside = build(study, tmp_path / "out")
    assert any("EnableSubgraph = true" in note for note in alone.notes)
    assert inside.path
    assert not inside.notes
    session = onnxruntime.InferenceSession(inside.path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((3, 1, 4), np.float32)})[0].shape == (1, 1, 4)
