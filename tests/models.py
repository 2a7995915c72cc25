"""Small ONNX models and data with fixed seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

SIDE = 8
CLASSES = 3
FEATURES = 16
IR_VERSION = 8  # every supported runtime reads it


def tiny_cnn(path: Path, *, batch: int | str = "batch", opset: int = 17) -> Path:
    """Write two convolutions with a shortcut and a classifier: x float32 [batch, 1, 8, 8] -> y float32 [batch, 3]."""
    rng = np.random.default_rng(1)
    weights = {
        "w1": _normal(rng, 4, 1, 3, 3),
        "b1": _normal(rng, 4),
        "w2": _normal(rng, 4, 4, 3, 3),
        "w3": _normal(rng, 4, CLASSES),
        "b3": _normal(rng, CLASSES),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a"], "shortcut"),
        helper.make_node("GlobalAveragePool", ["a"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "head/gemm"),
    ]
    model = make_model(nodes, {"x": [batch, 1, SIDE, SIDE]}, {"y": [batch, CLASSES]}, weights, opset=opset)
    onnx.save(model, path)
    return path


def tiny_mlp(path: Path, *, batch: int | str = "batch", opset: int = 17) -> Path:
    """Write two layers: x float32 [batch, 16] -> y float32 [batch, 3]; the second is a Gemm, the first a MatMul and Add."""
    rng = np.random.default_rng(2)
    weights = {
        "w1": _normal(rng, FEATURES, 32),
        "b1": _normal(rng, 32),
        "w2": _normal(rng, 32, CLASSES),
        "b2": _normal(rng, CLASSES),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"], "matmul"),
        helper.make_node("Add", ["m", "b1"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], "gemm"),
    ]
    model = make_model(nodes, {"x": [batch, FEATURES]}, {"y": [batch, CLASSES]}, weights, opset=opset)
    onnx.save(model, path)
    return path


def make_model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, Sequence[int | str | None]],
    outputs: dict[str, Sequence[int | str | None]],
    weights: dict[str, NDArray[Any]] | None = None,
    *,
    opset: int = 17,
) -> ModelProto:
    """Make a float32 model from nodes, shapes by name and initializers by name."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def images(count: int, *, seed: int = 3) -> NDArray[np.float32]:
    """Make data for tiny_cnn: float32 [count, 1, 8, 8]."""
    return _normal(np.random.default_rng(seed), count, 1, SIDE, SIDE)


def boxes_and_scores(path: Path, step: float | None = None, *, floor: float | None = None, pixels: float = 640) -> Path:
    """Write a detector's tail: x float32 [2, 3, 8, 8] -> output0 [2, 6, 64], rows 0-3 in 0..640 and rows 4-5 in 0..1, as logp their logarithm.

    Args:
        path: of the model.
        step: the scale of a QuantizeLinear behind the Concat, as a quantizer gives one to all rows: at 2.5 every score becomes 0.
        pixels: what the boxes are multiplied by, for a model that is a little off.
        floor: the least value that the logarithm sees; 0 becomes -infinity without it.
    """
    rng = np.random.default_rng(5)
    weights = {"wb": _normal(rng, 4, 3, 1, 1), "ws": _normal(rng, 2, 3, 1, 1)}
    constants: dict[str, Any] = {"px": np.float32(pixels), "floor": np.float32(floor or 0)}
    constants |= {"shape4": np.array([0, 4, -1], np.int64), "shape2": np.array([0, 2, -1], np.int64)}
    nodes = [
        helper.make_node("Conv", ["x", "wb"], ["b1"], "box"),
        helper.make_node("Sigmoid", ["b1"], ["b2"], "box_sigmoid"),
        helper.make_node("Mul", ["b2", "px"], ["b3"], "pixels"),
        helper.make_node("Reshape", ["b3", "shape4"], ["boxes"], "box_rows"),
        helper.make_node("Conv", ["x", "ws"], ["s1"], "class"),
        helper.make_node("Sigmoid", ["s1"], ["s2"], "class_sigmoid"),
        helper.make_node("Reshape", ["s2", "shape2"], ["scores"], "class_rows"),
        helper.make_node("Concat", ["boxes", "scores"], ["output0" if step is None else "joined"], "cat", axis=1),
    ]
    if step is not None:
        constants |= {"scale": np.float32(step), "zero": np.uint8(0)}
        nodes += [
            helper.make_node("QuantizeLinear", ["joined", "scale", "zero"], ["q"], "quantize"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["output0"], "dequantize"),
        ]
    nodes += [helper.make_node("Max", ["output0", "floor"], ["kept"], "keep"), helper.make_node("Log", ["kept"], ["logp"], "log")]
    rows = [2, 6, SIDE * SIDE]
    onnx.save(make_model(nodes, {"x": [2, 3, SIDE, SIDE]}, {"output0": rows, "logp": rows}, {**weights, **constants}), path)
    return path


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32)


def conv_chain(path: Path, layers: int) -> Path:
    """Write so many equal convolutions: x float32 [1, 16, 24, 24] -> y of the same shape; its time goes with their number."""
    rng = np.random.default_rng(4)
    weights = {f"w{number}": _normal(rng, 16, 16, 3, 3) for number in range(layers)}
    names = ["x", *(f"c{number}" for number in range(1, layers)), "y"]
    nodes = [
        helper.make_node("Conv", [names[number], f"w{number}"], [names[number + 1]], f"conv{number}", pads=[1, 1, 1, 1])
        for number in range(layers)
    ]
    onnx.save(make_model(nodes, {"x": [1, 16, 24, 24]}, {"y": [1, 16, 24, 24]}, weights), path)
    return path
