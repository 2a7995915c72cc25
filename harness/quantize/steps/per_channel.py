"""Gives one scale to weights that can't have a scale for each channel."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from harness.quantize.step import Step, listed
from harness.quantize.steps.patching import methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

MATRIX = 2  # axes
BIAS = 2  # its place among the inputs
RENAMED = "_MatMul"  # what onnxruntime appends to the name of a Gemm that it rewrites


def unfit(node: NodeProto, dims: Mapping[str, tuple[int, ...]], *, unsigned: bool = False) -> Iterator[str]:
    """Name the weights of a node that can't have a scale for each channel.

    Args:
        node: of any kind.
        dims: the shapes of all constants, by name.
        unsigned: the weights have zero points; onnxruntime's MatMul takes several of them on its right side only.
    """
    if node.op_type == "MatMul":
        yield from (name for name in node.input if name in dims and len(dims[name]) != MATRIX)
        yield from (name for name in node.input[:1] if unsigned and name in dims and len(dims[name]) == MATRIX)
    elif node.op_type == "ConvTranspose" and len(node.input) > BIAS:
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        # Its weight has only the channels of one group, and its bias those of all.
        yield from (name for name in (node.input[1],) if group > 1 and name in dims)


def weights(model: ModelProto, *, unsigned: bool = False) -> dict[str, str]:
    """Find the weights that can't have a scale for each channel; the name of a node that takes it, by the weight's."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return {name: node.name for node in model.graph.node for name in unfit(node, dims, unsigned=unsigned)}


class _Known:
    """The weights that were found, for each quantizer; and the nodes whose weights got one scale."""

    def __init__(self, *, unsigned: bool = False) -> None:
        self.unsigned = unsigned
        self.whole: dict[str, None] = {}
        self._found: dict[int, dict[str, str]] = {}

    def found(self, quantizer: Any) -> dict[str, str]:  # noqa: ANN401 - onnxruntime is not typed
        key = id(quantizer)
        if key not in self._found:
            self._found[key] = weights(quantizer.model.model, unsigned=self.unsigned)
        return self._found[key]


def _qdq(known: _Known) -> Callable[..., Any]:
    original = QDQQuantizer.is_tensor_per_channel

    def is_tensor_per_channel(quantizer: Any, tensor_name: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - see above
        answer = original(quantizer, tensor_name, *args, **kwargs)
        if answer[0] and tensor_name in known.found(quantizer) and not quantizer.tensor_quant_overrides.get(tensor_name):
            known.whole[known.found(quantizer)[tensor_name]] = None
            return False, None
        return answer

    return is_tensor_per_channel


def _qoperator(known: _Known) -> Callable[..., Any]:
    original = ONNXQuantizer.quantize_weight

    def quantize_weight(quantizer: Any, node: NodeProto, indices: list[int], **kwargs: Any) -> Any:  # noqa: ANN401 - see above
        if quantizer.per_channel and kwargs.get("op_level_per_channel") and node.input[indices[0]] in known.found(quantizer):
            known.whole[node.name.removesuffix(RENAMED)] = None
            kwargs["op_level_per_channel"] = False
        return original(quantizer, node, indices, **kwargs)

    return quantize_weight


@contextmanager
def patch(recipe: Recipe, notes: list[str]) -> Iterator[None]:
    """Give these weights one scale; a note names the nodes."""
    known = _Known(unsigned=(recipe.weight or "").startswith("QUInt"))
    with (
        methods(QDQQuantizer, is_tensor_per_channel=_qdq(known)),
        methods(ONNXQuantizer, quantize_weight=_qoperator(known)),
    ):
        yield
    if known.whole:
        notes.append(
            f"per-tensor-weights: these weights have one scale each, because they can't have one for each channel: {listed(known.whole)}"
        )


STEP = Step(
    key="per-tensor-weights",
    summary=(
        "A weight that can't have a scale for each channel gets one scale. This holds for a MatMul weight that is not a matrix, a matrix of "
        "unsigned integers on MatMul's left side, and the weight of a grouped ConvTranspose with a bias."
    ),
    source="onnxruntime/quantization/operators/matmul.py and conv.py; microsoft/onnxruntime#19694, #25489, #15442",
    cost="These weights are rounded more coarsely. No size, no time.",
    methods=frozenset({"dynamic", "static"}),
    patch=patch,
)
