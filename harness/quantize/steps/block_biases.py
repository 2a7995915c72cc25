"""Keeps biases in float where weights are quantized in blocks: a bias takes the weight's scale, and that has one number for each block here."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from harness.quantize.step import Decision, Step, listed, staying
from harness.quantize.steps.patching import methods
from harness.quantize.target_nodes import op_types

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe


NORMALIZATIONS = frozenset({"BatchNormalization", "InstanceNormalization", "LayerNormalization"})


def decide(model: ModelProto, recipe: Recipe, _: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Leave normalizations in float: their scale is a vector, and the tool makes blocks of matrices only."""
    if not recipe.options().get("BlockSize"):
        return Decision()
    names = [node.name for node in model.graph.node if node.op_type in NORMALIZATIONS & op_types(recipe)]
    note = f"float-block-biases: {staying(names)} in float, because the scale is a vector, and only matrices have blocks"
    return Decision(tuple(names), (note,)) if names else Decision()


@contextmanager
def patch(_: Recipe, notes: list[str]) -> Iterator[None]:
    """Leave biases in float where weights are in blocks; a note names the nodes."""
    found: dict[str, None] = {}
    original = QDQQuantizer.quantize_bias_tensor

    def quantize_bias_tensor(quantizer: Any, node_name: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - onnxruntime is not typed
        if quantizer.block_size:
            found[node_name] = None
        else:
            original(quantizer, node_name, *args, **kwargs)

    with methods(QDQQuantizer, quantize_bias_tensor=quantize_bias_tensor):
        yield
    if found:
        notes.append(
            f"float-block-biases: the bias of these nodes stays in float, because their weight is quantized in blocks: {listed(found)}"
        )


STEP = Step(
    key="float-block-biases",
    summary="Where weights are quantized in blocks (`BlockSize`), biases stay in float, and so do normalizations.",
    source="QDQQuantizer.quantize_bias_tensor in onnxruntime/quantization/qdq_quantizer.py",
    cost="Four bytes for each number of the bias, as in fp32.",
    methods=frozenset({"static"}),
    decide=decide,
    patch=patch,
)
