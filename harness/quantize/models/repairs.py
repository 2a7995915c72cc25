"""Faults of onnxruntime's quantizers that are mended here, because no option goes around them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from onnx import numpy_helper
from onnxruntime.quantization.operators.base_operator import QuantOperatorBase
from onnxruntime.quantization.operators.where import QLinearWhere
from onnxruntime.quantization.registry import QLinearOpsRegistry

from harness.quantize.models.graph import all_inputs

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

TRANSPOSED = "_transposed"


class Where(QLinearWhere):  # type: ignore[misc]  # onnxruntime is not typed
    """Where in QOperator models: gets its inputs back in float, as every operator does that is not quantized.

    onnxruntime's own leaves them quantized, so that the model has no tensor of the name that Where takes: 'Invalid model with unknown
    initializers/tensors'. Masks in transformers are made so. With ForceQuantizeNoInputCheck it is quantized, as before.
    """

    def quantize(self) -> None:
        """Quantize the node, or leave it in float."""
        if self.quantizer.force_quantize_no_input_check:
            super().quantize()
        else:
            QuantOperatorBase.quantize(self)


def install() -> None:
    """Put the mended ones into onnxruntime's table; where nothing was broken, the models stay the same, bit for bit."""
    QLinearOpsRegistry["Where"] = Where


def has_shared_transposed(model: ModelProto) -> bool:
    """Say whether a Gemm transposes weights that something else takes, too."""
    uses = all_inputs(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    return any(uses[node.input[1]] > 1 and node.input[1] in stored for node in model.graph.node if _transposes(node))


def part_shared_transposed(model: ModelProto) -> None:
    """Give, in place, the Gemms that transpose shared weights one transposed copy of them.

    The dynamic tool transposes a Gemm's weights where they lie, whoever takes them besides: two such Gemms turn them twice. It gives
    a model that does not load, or, where the weights are square, one that computes something else without a word.
    """
    uses = all_inputs(model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    turned: Counter[str] = Counter()
    copies: dict[str, str] = {}
    for node in model.graph.node:
        name = node.input[1] if _transposes(node) else ""
        if uses[name] > 1 and name in stored:
            if name not in copies:
                copies[name] = _free(name + TRANSPOSED, {*uses, *stored})
                array = numpy_helper.to_array(stored[name])
                model.graph.initializer.append(numpy_helper.from_array(array.T.copy(), copies[name]))
            turned[name] += 1
            node.input[1] = copies[name]
            next(attribute for attribute in node.attribute if attribute.name == "transB").i = 0
    for name, count in turned.items():
        if count == uses[name]:
            model.graph.initializer.remove(stored[name])


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _transposes(node: NodeProto) -> bool:
    return node.op_type == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
