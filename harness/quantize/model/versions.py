"""What a file says that it needs: its IR version and operator sets, kept as low as its content allows for an old runtime.

A newer tool stamps a file with the versions that it knows itself, and an older runtime refuses the file for the stamp alone, even if
nothing in it is new (microsoft/onnxruntime#16584).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from harness.quantize.model.graph import MAIN_DOMAINS, nodes, strip_unused_opsets, tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import ModelProto

ML = "ai.onnx.ml"


@dataclass(frozen=True)
class Limits:
    """The highest versions that a release of onnxruntime takes.

    Attributes:
        since: the first release with these limits, as (major, minor).
        ir: of the file format.
        opset: of the standard operators.
        ml: of ``ai.onnx.ml``.
    """

    since: tuple[int, int]
    ir: int
    opset: int
    ml: int


# As each release's own wheel answers when models with rising stamps are loaded (1.15.1, 1.16.3, 1.17.3, 1.18.1, 1.19.2, 1.20.1, 1.21.1,
# 1.22.1, 1.23.2, 1.24.4, 1.25.1, 1.26.0 to 1.31.1, 1.32.0). https://onnxruntime.ai/docs/reference/compatibility.html and the table in
# https://github.com/onnx/onnx/blob/main/docs/Versioning.md say the same, by way of the version of ONNX that a release is built with.
LIMITS = (
    Limits((1, 32), 14, 28, 5),
    Limits((1, 25), 13, 26, 5),
    Limits((1, 24), 13, 25, 5),
    Limits((1, 23), 11, 23, 5),
    Limits((1, 21), 10, 22, 5),
    Limits((1, 18), 10, 21, 5),
    Limits((1, 17), 9, 20, 4),
    Limits((1, 15), 9, 19, 3),
)

# The IR version that brought a kind of tensor: enum Version in onnx.proto.
BFLOAT16_IR, SPARSE_IR, TRAINING_IR, FUNCTIONS_IR, METADATA_IR, DEVICES_IR = 4, 6, 7, 8, 10, 11
LOOSE_INITIALIZERS_IR, ANNOTATION_IR = 4, 5
LEAST_IR = 3
TYPES_IR = {
    "BFLOAT16": BFLOAT16_IR,
    "FLOAT8E4M3FN": 9,
    "FLOAT8E4M3FNUZ": 9,
    "FLOAT8E5M2": 9,
    "FLOAT8E5M2FNUZ": 9,
    "UINT4": 10,
    "INT4": 10,
    "FLOAT4E2M1": 11,
    "FLOAT8E8M0": 12,
    "UINT2": 13,
    "INT2": 13,
}


def oldest(versions: Iterable[str | None]) -> str | None:
    """Pick the oldest of some versions of onnxruntime; those that are unknown don't count."""
    known = [version for version in versions if version and _release(version)]
    return min(known, key=lambda version: [int(part) for part in re.findall(r"\d+", version)[:3]], default=None)


def limits(runtime: str | None) -> Limits | None:
    """Tell what a version of onnxruntime takes; None for one that is unknown or older than the table."""
    release = _release(runtime)
    return next((found for found in LIMITS if release and release >= found.since), None)


def stamp(model: ModelProto, runtime: str | None) -> bool:
    """Drop, in place, imports of unused operator sets, and lower the IR version to what a runtime takes; it is never raised.

    Args:
        model: as a tool wrote it.
        runtime: the oldest version of onnxruntime that is to load it; None leaves the IR version alone.

    Returns:
        Whether anything was changed.
    """
    before = (len(model.opset_import), model.ir_version)
    strip_unused_opsets(model)
    if found := limits(runtime):
        model.ir_version = min(model.ir_version, max(found.ir, needed(model)))
    return before != (len(model.opset_import), model.ir_version)


def refusal(model: ModelProto, runtime: str | None) -> str | None:
    """Say why a runtime refuses a model for what it is stamped with, or None."""
    found = limits(runtime)
    if found is None:
        return None
    if model.ir_version > found.ir:
        return f"onnxruntime {runtime} takes IR version {found.ir} at most, and the file says {model.ir_version}"
    for entry in model.opset_import:
        highest = found.opset if entry.domain in MAIN_DOMAINS else found.ml if entry.domain == ML else entry.version
        if entry.version > highest:
            domain = entry.domain or "ai.onnx"
            return f"onnxruntime {runtime} takes opset {highest} of {domain} at most, and the file says {entry.version}"
    return None


def needed(model: ModelProto) -> int:
    """The lowest IR version that a model's content allows, as the history in onnx.proto tells."""
    graph = model.graph
    found = {LEAST_IR, helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)}
    kinds = {tensor.data_type for tensor in tensors(model)}
    kinds |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    kinds |= {attribute.i for node in nodes(model) for attribute in node.attribute if attribute.name in {"to", "output_dtype"}}
    found |= {version for name, version in TYPES_IR.items() if getattr(TensorProto, name, None) in kinds}
    listed = list(nodes(model))
    conditions = {
        LOOSE_INITIALIZERS_IR: not {tensor.name for tensor in graph.initializer} <= {value.name for value in graph.input},
        ANNOTATION_IR: bool(graph.quantization_annotation),
        SPARSE_IR: bool(graph.sparse_initializer),
        TRAINING_IR: bool(model.training_info),
        FUNCTIONS_IR: bool(model.functions),
        METADATA_IR: bool(graph.metadata_props) or any(node.metadata_props or node.overload for node in listed),
        DEVICES_IR: bool(getattr(model, "configuration", ()))
        or any(getattr(node, "device_configurations", ()) for node in listed),
    }
    return max(found | {version for version, holds in conditions.items() if holds})


def _release(version: str | None) -> tuple[int, int] | None:
    """A version's first two numbers, or None if it has none."""
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None
