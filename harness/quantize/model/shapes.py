"""The shapes of a model's tensors for given input sizes, without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto, TensorProto, ValueInfoProto

    from harness.quantize.model.model import SourceModel

Shape = tuple[int, ...]
SMALL = 64  # numbers; shape inference reads the values of shapes and axes, and these are short
T = onnx.TensorProto
WIDTH = {
    **dict.fromkeys((T.FLOAT, T.INT32, T.UINT32), 4),
    **dict.fromkeys((T.DOUBLE, T.INT64, T.UINT64), 8),
    **dict.fromkeys((T.FLOAT16, T.BFLOAT16, T.INT16, T.UINT16), 2),
    **dict.fromkeys((T.INT8, T.UINT8, T.BOOL), 1),
}


def infer(model: SourceModel, dims: Mapping[str, int]) -> dict[str, tuple[Shape, int]]:
    """Infer the shapes of the main graph's tensors.

    Args:
        model: its weights need not be loaded.
        dims: sizes of its open dimensions; what is missing counts as 1.

    Returns:
        By name, the shape and the bytes of one number. What ONNX's inference can't tell, such as what operators of other domains
        give, is missing.
    """
    proto = bare(model.proto)
    _fill(proto, model, dims)
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # noqa: BLE001 - it raises its own and plain ones; the shapes that the file states are left
        proto = bare(model.proto)
        _fill(proto, model, dims)
    found: dict[str, tuple[Shape, int]] = {}
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        shape = _shape(value)
        if shape is not None:
            found[value.name] = (shape, WIDTH.get(value.type.tensor_type.elem_type, 4))
    for tensor in proto.graph.initializer:
        found[tensor.name] = (tuple(tensor.dims), WIDTH.get(tensor.data_type, 4))
    return found


def bare(proto: ModelProto) -> ModelProto:
    """Copy a model without its large tensors: these become inputs of their type and shape."""
    made = onnx.ModelProto(ir_version=proto.ir_version)
    made.opset_import.extend(proto.opset_import)
    made.functions.extend(proto.functions)
    made.graph.name = proto.graph.name
    made.graph.node.extend(proto.graph.node)
    made.graph.output.extend(proto.graph.output)
    named = {tensor.name for tensor in proto.graph.initializer}
    made.graph.input.extend(value for value in proto.graph.input if value.name not in named)
    for tensor in proto.graph.initializer:
        if _is_small(tensor):
            made.graph.initializer.append(tensor)
        else:
            made.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return made


def _is_small(tensor: TensorProto) -> bool:
    count = 1
    for size in tensor.dims:
        count *= size
    return count <= SMALL and tensor.data_location != onnx.TensorProto.EXTERNAL


def _fill(bare: ModelProto, model: SourceModel, dims: Mapping[str, int]) -> None:
    """Write sizes, in place, into the inputs; what outputs say of themselves would contradict them."""
    specs = {spec.name: spec.shape for spec in model.inputs}
    for value in bare.graph.input:
        for axis, size in enumerate(specs.get(value.name, ())):
            dimension = value.type.tensor_type.shape.dim[axis]
            dimension.dim_value = dims.get(f"{value.name}.{axis}", dims.get(size, 1)) if isinstance(size, str) else size
    for value in bare.graph.output:
        _open(value)


def _open(value: ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    if value.type.HasField("tensor_type") and any(not size.dim_value for size in tensor.shape.dim):
        tensor.ClearField("shape")


def _shape(value: ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim]
    return None if any(size < 0 for size in sizes) else tuple(sizes)
