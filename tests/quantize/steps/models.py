"""Small models for tests of preparation steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

IR_VERSIONS = {21: 10}


def weights(*shape: int, seed: int = 0) -> NDArray[Any]:
    """Random weights that keep activations about as large as they are."""
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / np.float32(np.sqrt(fan))


def samples(*shape: int, seed: int = 1) -> NDArray[Any]:
    """Normally distributed numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(kind: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> NodeProto:
    """A node; its inputs and outputs separated by blanks, ``-`` for one that is left out."""
    taken, given = ([name if name != "-" else "" for name in text.split()] for text in (inputs, outputs))
    return helper.make_node(kind, taken, given, name or f"{kind}_{outputs.split(maxsplit=1)[0]}", **attributes)


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Iterable[str] | Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Any],
    *,
    opset: int = 17,
    types: Mapping[str, int] | None = None,
) -> ModelProto:
    """A checked model; float32 unless types say otherwise."""
    types = types or {}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    taken = [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape) for name, shape in inputs.items()]
    shapes = outputs if isinstance(outputs, dict) else dict.fromkeys(outputs)
    given = [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "test", taken, given, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSIONS.get(opset, 8))
    made = shape_inference.infer_shapes(made, data_prop=True)
    checker.check_model(made)
    return made
