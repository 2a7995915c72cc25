"""The bias beside a weight in blocks stays in float: it would take the weight's scale, which is one number for each channel there, not for each block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from harness.quantize.steps.patching import methods
from harness.quantize.steps.step import Step, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.quantize.recipe import Recipe


@contextmanager
def patch(_: Recipe, notes: list[str]) -> Iterator[None]:
    """Let a bias be where weights are in blocks; a note names the nodes."""
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
        notes.append(f"float-block-biases: the bias stays in float beside a weight in blocks: {listed(found)}")


STEP = Step(
    key="float-block-biases",
    summary="A bias beside a weight in blocks (`BlockSize`) stays in float.",
    source="QDQQuantizer.quantize_bias_tensor in onnxruntime/quantization/qdq_quantizer.py",
    cost="four bytes for each number of the bias, as in fp32",
    methods=frozenset({"static"}),
    patch=patch,
)
