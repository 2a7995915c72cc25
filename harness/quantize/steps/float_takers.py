"""Gives nodes and bodies that take a tensor in float the float tensor, also if a quantizer has left only its integers in the model."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onnx import helper
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

from harness.quantize.model.graph import nodes_in
from harness.quantize.step import Step
from harness.quantize.steps.patching import methods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import NodeProto

    from harness.quantize.recipe import Recipe


def _taken(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node takes, and those that its bodies take or make; the latter belong to no tensor outside."""
    for inner in nodes_in(node):
        yield from inner.input
        for attribute in inner.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from (value.name for value in graph.output)


def complete(quantizer: Any) -> None:  # noqa: ANN401 - onnxruntime is not typed
    """Add, in place, the nodes without which a finished list of nodes takes tensors that none of them makes.

    A missing float tensor is dequantized just before the first node that takes it. A missing integer tensor is quantized: an operator
    that gives up after it has quantized an input drops the node, and the next one counts on it.

    Args:
        quantizer: an ONNXQuantizer whose nodes are all in ``new_nodes``.
    """
    made = {name for node in quantizer.new_nodes for name in node.output}
    made |= {tensor.name for tensor in quantizer.model.initializer()} | {value.name for value in quantizer.model.graph().input}
    integers = {value.q_name: value for value in quantizer.quantized_value_map.values()}
    finished: list[NodeProto] = []

    def add(name: str) -> None:
        if not name or name in made:
            return
        made.add(name)
        if name in integers and integers[name].scale_name in made:
            value = integers[name]
            inputs = [value.original_name, value.scale_name, value.zp_name]
            add(value.original_name)
            finished.append(helper.make_node("QuantizeLinear", inputs, [name], f"{value.original_name}_QuantizeLinear"))
        elif name in quantizer.quantized_value_map:
            value = quantizer.quantized_value_map[name]
            add(value.q_name)
            inputs = [value.q_name, value.scale_name, value.zp_name]
            label = f"{name}_DequantizeLinear"
            finished.append(helper.make_node("DequantizeLinear", inputs, [name], label, axis=value.axis))

    for node in quantizer.new_nodes:
        for name in _taken(node):
            add(name)
        finished.append(node)
    quantizer.new_nodes[:] = finished


def _outputs() -> Any:  # noqa: ANN401 - onnxruntime is not typed
    original = ONNXQuantizer._dequantize_outputs  # noqa: SLF001 - the last thing that is done to the nodes

    def _dequantize_outputs(quantizer: Any) -> None:  # noqa: ANN401 - onnxruntime is not typed
        original(quantizer)
        complete(quantizer)

    return _dequantize_outputs


@contextmanager
def patch(_: Recipe, __: list[str]) -> Iterator[None]:
    """Replace how onnxruntime ends a model of quantized operators."""
    with methods(ONNXQuantizer, _dequantize_outputs=_outputs()):
        yield


STEP = Step(
    key="float-takers",
    summary="A tensor that exists only as integers is dequantized for the nodes that take it in float, such as Where, and for the bodies of If, Loop and Scan.",
    source="QuantOperatorBase.quantize in onnxruntime/quantization/operators/base_operator.py; microsoft/onnxruntime#8012, #17760",
    cost="One DequantizeLinear for each such tensor.",
    methods=frozenset({"dynamic", "static"}),
    patch=patch,
)
