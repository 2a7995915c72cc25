"""The first node of a model whose output differs between two runs on the same inputs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import onnx

from harness.quantize.verify.equality import same
from harness.quantize.verify.session import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import ModelProto

TENSORS = 64  # are looked at together: all of a model's at once can be more than the memory holds
SECONDS = 20.0  # no further ones after that
MOST_BYTES = 2_000_000_000  # of a protobuf message


def find(path: Path, feed: Mapping[str, Any]) -> str | None:
    """Find the node, in the order of the file, by giving the tensors of the main graph as outputs.

    Args:
        path: of the model.
        feed: the inputs.

    Returns:
        The node as messages name it, with its operator; None if none was found in 20 s, or onnxruntime can't give the tensors.
    """
    model = onnx.load(path, load_external_data=False)
    if model.ByteSize() > MOST_BYTES:
        return None
    maker = {name: node for node in model.graph.node for name in node.output if name}
    names, end = list(maker), time.monotonic() + SECONDS
    for begin in range(0, len(names), TENSORS):
        if time.monotonic() > end:
            return None
        try:
            different = _different(model, path.parent, names[begin : begin + TENSORS], feed)
        except Exception:  # noqa: BLE001 - onnxruntime refuses some graphs that are opened up; the outputs' names are known all the same
            return None
        if different is not None:
            node = maker[different]
            return f"{node.op_type} '{node.name or different}'"
    return None


def _different(model: ModelProto, folder: Path, names: list[str], feed: Mapping[str, Any]) -> str | None:
    """The first of some tensors that differs between two runs."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    given = {value.name for value in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    session = open_session(opened.SerializeToString(), folder)
    pairs = zip(session.run(names, feed), session.run(names, feed), strict=True)
    return next((name for name, (once, again) in zip(names, pairs, strict=True) if not same(once, again)), None)
