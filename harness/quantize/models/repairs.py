"""Faults of onnxruntime's quantizers that are mended here, because no option goes around them."""

from __future__ import annotations

from onnxruntime.quantization.operators.base_operator import QuantOperatorBase
from onnxruntime.quantization.operators.where import QLinearWhere
from onnxruntime.quantization.registry import QLinearOpsRegistry


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
