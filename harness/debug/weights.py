"""Which weights of a variant are far from fp32's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.debug import integers
from harness.quantize.verify.sums import decibels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    Array = NDArray[Any]

# The axis of a weight that runs over the outputs of its node; the last one of others, as of MatMul.
OUTPUT_AXIS: Mapping[str, int] = {"Conv": 0, "ConvTranspose": 1}


@dataclass(frozen=True)
class WeightLoss:
    """A weight that differs from fp32's.

    Attributes:
        name: in the float model.
        node: the first that takes it.
        op_type: of that node.
        sqnr_db: of the whole tensor.
        worst_db: of the output channel whose SQNR is lowest; None for a bias. One channel of a large range coarsens the scale of
            all others, which the SQNR of the whole does not show: that channel is most of its signal.
    """

    name: str
    node: str
    op_type: str
    sqnr_db: float
    worst_db: float | None


def rank(original: ModelProto, variant: ModelProto) -> list[WeightLoss]:
    """Compare the weights of a model with a variant's, the worst channel first."""
    takers: dict[str, NodeProto] = {}
    for node in original.graph.node:
        for name in node.input:
            takers.setdefault(name, node)
    found = []
    for name, (ref, made) in integers.weights(original, variant).items():
        taker = takers.get(name)
        kind = taker.op_type if taker is not None else ""
        axis = _output_axis(taker) if taker is not None else -1
        loss = WeightLoss(name, taker.name if taker is not None else "", kind, _sqnr(ref, made), _worst(ref, made, axis))
        if loss.sqnr_db < math.inf:
            found.append(loss)
    return sorted(found, key=lambda loss: loss.sqnr_db if loss.worst_db is None else min(loss.sqnr_db, loss.worst_db))


def _output_axis(node: NodeProto) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else OUTPUT_AXIS.get(node.op_type, -1)


def _worst(ref: Array, made: Array, axis: int) -> float | None:
    """The lowest SQNR of a channel; channels without signal have none."""
    if ref.ndim < 2:  # noqa: PLR2004 - a bias
        return None
    pairs = zip(np.moveaxis(ref, axis, 0), np.moveaxis(made, axis, 0), strict=True)
    return min((_sqnr(*pair) for pair in pairs if np.any(pair[0])), default=None)


def _sqnr(ref: Array, made: Array) -> float:
    wide = ref.astype(np.float64)
    found = decibels(float(np.sum(wide * wide)), float(np.sum(np.square(wide - made.astype(np.float64)))))
    return -math.inf if math.isnan(found) else found
