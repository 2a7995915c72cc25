"""What rounding alone costs: the prepared model with its tensors rounded to integers and back, by plain arithmetic in float.

A variant that is no worse than this loses what any variant of its types would lose; one that is worse has a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

from harness.quantize.target_nodes import DYNAMIC_OPS, STATIC_OPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.quantize.recipe import Recipe

    Runs = Callable[[onnx.ModelProto], Sequence[Mapping[str, np.ndarray[Any, Any]]]]

BITS = {"QInt8": 8, "QUInt8": 8, "QInt16": 16, "QUInt16": 16}
BLOCK, NBITS_LEVELS = 32, 8
# Relu and Clip narrow what comes before them; quantizers give that the narrow range.
NARROWING = frozenset({"Relu", "Clip"})
# Values beyond this, with next to nothing between these shares of the largest, are marks such as -1e9 for masked places: no sensible scale
# holds both. The power of a spectrum goes as far, but has values of every size.
LEAST_MARK, BELOW, ABOVE, SOME, SAME = 5e3, 3e-3, 0.3, 1e-4, 0.01
PARAMETERS = frozenset({"Resize", "Upsample", "Clip", "Pad", "Slice"})  # whose constants are no tensors of values
BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}
CONTRIB = "com.microsoft"
HALF_MAX = 65504.0


def rounded(model: onnx.ModelProto, recipe: Recipe, run: Runs) -> onnx.ModelProto | None:
    """Round the tensors that a recipe quantizes.

    Args:
        model: the prepared one.
        recipe: an fp16, dynamic, static or nbits recipe; for any other there is no such model.
        run: gives a model's inputs and outputs for each sample of the calibration data.
    """
    if recipe.method not in {"fp16", "dynamic", "static", "nbits"}:
        return None
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if recipe.method == "fp16":
        return _halved(result, _ranges(model, run))
    kinds = {"dynamic": DYNAMIC_OPS, "static": STATIC_OPS, "nbits": frozenset({"MatMul", "Gemm"})}[recipe.method]
    constants = _constants(result)
    nodes = [node for node in result.graph.node if node.op_type in kinds]
    if recipe.method == "dynamic":
        nodes = [node for node in nodes if any(name in constants for name in node.input[:2])]
    _round_constants(result, nodes, constants, recipe)
    if recipe.method != "nbits":
        _round_activations(result, nodes, constants, recipe, _ranges(model, run))
    return result


def _halved(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto | None:
    """Round everything that fp16 converts to half precision and back; None where a value is beyond its range."""
    if any(max(-low, high) > HALF_MAX for low, high in ranges.values()):
        return None
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).clip(-HALF_MAX, HALF_MAX)
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16).astype(np.float32), tensor.name))
    halved = [node for node in model.graph.node if node.op_type not in DEFAULT_OP_BLOCK_LIST]
    for name in dict.fromkeys(name for node in halved for name in node.output if name in ranges):
        inner = f"{name}__float"
        at = next(place for place, node in enumerate(model.graph.node) if name in node.output)
        model.graph.node[at].output[:] = [inner if each == name else each for each in model.graph.node[at].output]
        to_half = helper.make_node("Cast", [inner], [f"{name}__half"], to=onnx.TensorProto.FLOAT16)
        model.graph.node.insert(at + 1, helper.make_node("Cast", [f"{name}__half"], [name], to=onnx.TensorProto.FLOAT))
        model.graph.node.insert(at + 1, to_half)
    return model


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _round_constants(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, np.ndarray[Any, Any]], recipe: Recipe
) -> None:
    """Give each node rounded weights of its own."""
    for number, node in enumerate(each for each in nodes if each.op_type not in PARAMETERS):
        for place, name in enumerate(node.input):
            array = constants.get(name)
            if array is None or array.dtype != np.float32 or array.size < 2 or place == BIASED.get(node.op_type):  # noqa: PLR2004
                continue
            if _is_marked(array) or (recipe.method == "nbits" and (place != 1 or array.ndim != 2)):  # noqa: PLR2004
                continue
            axis = _axis(node) if recipe.per_channel and array.ndim > 1 and place == 1 else None
            if recipe.method == "nbits":
                transposed = any(each.name == "transB" and each.i for each in node.attribute)
                values = _by_blocks(array.T).T if transposed else _by_blocks(array)
            else:
                values = _by_scale(array, recipe.weight or "QInt8", axis)
            fresh = f"{name}__rounded_{number}_{place}"
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), fresh))
            node.input[place] = fresh


def _axis(node: onnx.NodeProto) -> int | None:
    if node.op_type == "Gemm":
        return 0 if any(each.name == "transB" and each.i for each in node.attribute) else 1
    return CHANNEL_AXIS.get(node.op_type)


def _by_scale(array: np.ndarray[Any, Any], kind: str, axis: int | None) -> np.ndarray[Any, Any]:
    """Round by one scale, or one for each entry of an axis: symmetric for signed types."""
    axes = None if axis is None else tuple(each for each in range(array.ndim) if each != axis % array.ndim)
    low, high = np.minimum(array.min(axes, keepdims=True), 0), np.maximum(array.max(axes, keepdims=True), 0)
    levels = 2 ** BITS[kind] - 1
    if kind.startswith("QInt"):
        scale = np.maximum(np.maximum(-low, high) / (levels // 2), 1e-30)
        return np.asarray(np.round(array / scale) * scale)
    scale = np.maximum((high - low) / levels, 1e-30)
    zero = np.round(-low / scale)
    return np.asarray((np.clip(np.round(array / scale) + zero, 0, levels) - zero) * scale)


def _by_blocks(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round a matrix to 4 bits by blocks of 32 along its first axis."""
    result = array.copy()
    for start in range(0, len(array), BLOCK):
        block = array[start : start + BLOCK]
        largest = np.take_along_axis(block, np.abs(block).argmax(axis=0, keepdims=True), axis=0)
        scale = np.where(largest == 0, 1, largest / -NBITS_LEVELS)
        result[start : start + BLOCK] = np.clip(np.round(block / scale), -NBITS_LEVELS, NBITS_LEVELS - 1) * scale
    return result


def _ranges(model: onnx.ModelProto, run: Runs) -> dict[str, tuple[float, float]]:
    """The smallest and largest value of each float tensor of the main graph; none for tensors that hold marks."""
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    typed = {each.name: each.type.tensor_type.elem_type for each in onnx.shape_inference.infer_shapes(model).graph.value_info}
    given = {name for node in model.graph.node for name in node.output}
    names = [name for name, kind in typed.items() if kind == onnx.TensorProto.FLOAT and name in given]
    declared = {each.name for each in model.graph.output}
    open_model.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in declared
    )
    ends = (*model.graph.input, *model.graph.output)
    names += [each.name for each in ends if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    samples = run(open_model)
    found = {}
    for name in names:
        values = np.concatenate([sample[name].ravel() for sample in samples])
        if values.size and np.isfinite(values).all() and not _is_marked(values):
            found[name] = (min(float(values.min()), 0.0), max(float(values.max()), 0.0))
    return found


def _is_marked(values: np.ndarray[Any, Any]) -> bool:
    """Say whether some values are marks, as opposed to measures: large, and with nothing between them and the rest."""
    sizes = np.abs(values[values != 0])
    if not sizes.size or sizes.max() < LEAST_MARK:
        return False
    between = (sizes > BELOW * sizes.max()) & (sizes < ABOVE * sizes.max())
    return bool(between.mean() < SOME and sizes.min() != sizes.max()) or bool(sizes.min() > (1 - SAME) * sizes.max())


def _round_activations(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray[Any, Any]],
    recipe: Recipe,
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    """Put a pair of nodes behind each tensor that the quantized nodes take or, of a static recipe, give."""
    takers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    outputs = {each.name for each in model.graph.output}
    wanted = dict.fromkeys(
        name for node in nodes for name in (*node.input[:2], *(node.output if recipe.method == "static" else ()))
    )
    for name in wanted:
        narrowed = takers.get(name) and all(node.op_type in NARROWING for node in takers[name]) and name not in outputs
        if name in constants or name not in ranges or (narrowed and recipe.method == "static"):
            continue
        low, high = ranges[name]
        levels = 2 ** BITS[recipe.activation or "QUInt8"] - 1
        scale = max((high - low) / levels, 1e-30)
        dtype = np.uint16 if levels > 255 else np.uint8  # noqa: PLR2004
        inner = f"{name}__float"
        if name in outputs:
            for node in model.graph.node:
                node.output[:] = [inner if each == name else each for each in node.output]
            source, result = inner, name
        else:
            source, result = name, f"{name}__rounded"
        for node in takers.get(name, []):
            node.input[:] = [result if each == name else each for each in node.input]
        scale_name, zero_name = f"{name}__scale", f"{name}__zero"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(scale, np.float32), scale_name))
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(round(-low / scale), dtype), zero_name))
        pair = [
            helper.make_node("QuantizeLinear", [source, scale_name, zero_name], [f"{name}__integer"], domain=CONTRIB),
            helper.make_node("DequantizeLinear", [f"{name}__integer", scale_name, zero_name], [result], domain=CONTRIB),
        ]
        at = next((place + 1 for place, node in enumerate(model.graph.node) if source in node.output), 0)
        for node in reversed(pair):
            model.graph.node.insert(at, node)
    if all(each.domain != CONTRIB for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
