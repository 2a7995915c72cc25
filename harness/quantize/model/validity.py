"""Whether a model is valid ONNX, by onnx's own checker, with one exception."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from harness.quantize.model.graph import MAIN_DOMAINS, nodes, opset_of

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

# onnx withdrew the first GroupNormalization, and its checker refuses models that have it. onnxruntime runs them.
WITHDRAWN = {"GroupNormalization": range(18, 21)}
ASIDE = "quant-harness.withdrawn"


def check(model: ModelProto | Path) -> None:
    """Check a model: in memory, or by its file where its tensors lie beside it.

    Raises:
        Exception: of onnx, if it is not valid.
    """
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)
    if not _withdrawn(proto):
        onnx.checker.check_model(model if isinstance(model, onnx.ModelProto) else str(model))
        return
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    for node in nodes(copied):
        if node.op_type in WITHDRAWN and node.domain in MAIN_DOMAINS:
            node.domain = ASIDE
    copied.opset_import.add(domain=ASIDE, version=1)
    if model is proto:
        onnx.checker.check_model(copied)


def _withdrawn(model: ModelProto) -> bool:
    version = opset_of(model) or 0
    kinds = {kind for kind, versions in WITHDRAWN.items() if version in versions}
    return bool(kinds) and any(node.op_type in kinds and node.domain in MAIN_DOMAINS for node in nodes(model))
