"""Whole layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quantize.nodes.case import LAST, RNG, X2, X3, X4, Case, fixed, forms, normal

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases() -> Iterator[Case]:
    channel = [fixed(np.abs(normal(3)) + 0.5, np.float32) for _ in range(4)]
    for given in forms({}, {"epsilon": 0.1}):
        yield Case("BatchNormalization", 7, LAST, (X4, *channel), given)
    yield Case("BatchNormalization", 7, 8, (X4, *channel), {"spatial": 1})
    whole = [fixed(np.abs(normal(3, 4, 6)) + 0.5, np.float32) for _ in range(4)]
    yield Case("BatchNormalization", 7, 8, (X4, *whole), {"spatial": 0})
    groups = normal(2, 6, 4)
    yield Case(
        "GroupNormalization", 18, 20, (groups, fixed(normal(2), np.float32), fixed(normal(2), np.float32)), {"num_groups": 2}
    )
    yield Case(
        "GroupNormalization",
        18,
        20,
        (groups, fixed(normal(3), np.float32), fixed(normal(3), np.float32)),
        {"num_groups": 3, "epsilon": 0.1},
    )
    for given in forms({}, {"alpha": 2.0, "beta": 0.5}, {"transB": 1}, {"transA": 1}):
        a = X2.T.copy() if given.get("transA") else X2
        b = normal(5, 4) if given.get("transB") else normal(4, 5)
        yield Case("Gemm", 7, LAST, (a, fixed(b, np.float32), fixed(normal(5), np.float32)), given)
        yield Case("Gemm", 11, LAST, (a, fixed(b, np.float32)), given)
    yield Case("MatMul", 7, LAST, (X3, fixed(normal(4, 5), np.float32)))
    for given in forms({"size": 3}, {"size": 3, "alpha": 0.5, "beta": 0.5, "bias": 2.0}):
        yield Case("LRN", 7, LAST, (X4,), given)
    yield Case("MeanVarianceNormalization", 9, LAST, (X4,))
    yield Case("MeanVarianceNormalization", 9, LAST, (X4,), {"axes": [0, 2]})
    yield Case("Dropout", 7, 11, (X4,))
    yield Case("Dropout", 7, 11, (X4,), {"ratio": 0.3})
    yield Case("Dropout", 12, LAST, (X4, fixed(0.3, np.float32)))
    sequence = normal(5, 2, 3)
    for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction, ways in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            weights = (fixed(normal(ways, gates * 4, 3), np.float32), fixed(normal(ways, gates * 4, 4), np.float32))
            bias = fixed(normal(ways, gates * 8), np.float32)
            yield Case(kind, 7, LAST, (sequence, *weights, bias), {"hidden_size": 4, "direction": direction}, 2)
        if kind == "GRU":
            yield Case(
                kind, 7, LAST, (sequence, *weights, bias), {"hidden_size": 4, "direction": direction, "linear_before_reset": 1}, 2
            )
    scale, zero = fixed(0.05, np.float32), fixed(3, np.uint8)
    yield Case("QuantizeLinear", 10, LAST, (X4, scale, zero))
    yield Case("DequantizeLinear", 10, LAST, (np.arange(12, dtype=np.uint8).reshape(3, 4), scale, zero))
    many = (fixed([0.1, 0.2, 0.3], np.float32), fixed([1, 2, 3], np.uint8))
    for axis in forms({}, {"axis": 1}, {"axis": -3}):
        yield Case("QuantizeLinear", 13, LAST, (X4, *many), axis)
        yield Case("DequantizeLinear", 13, LAST, (np.arange(144, dtype=np.uint8).reshape(2, 3, 4, 6), *many), axis)
    left, right = (fixed(RNG.integers(0, 255, (4, 4)), np.uint8) for _ in range(2))
    yield Case("QLinearMatMul", 10, LAST, (left.value, scale, zero, right, scale, zero, scale, zero))
    signal = normal(2, 8, 1)
    for given in forms({}, {"inverse": 0, "onesided": 1}, {"axis": 1}):
        yield Case("DFT", 17, 19, (signal,), given)
    yield Case("DFT", 17, 19, (normal(2, 8, 4, 1),), {"axis": 2})
    yield Case("DFT", 17, 19, (normal(2, 8, 4, 1),))
    yield Case("DFT", 17, 19, (normal(2, 8, 4, 2),), {"axis": 1, "inverse": 1})
    yield Case("DFT", 17, 19, (signal, fixed(6)), {"axis": 1})
    logits, labels = normal(4, 5), fixed([0, 4, 2, 1])
    for reduction in forms({}, {"reduction": "none"}, {"ignore_index": 2}):
        yield Case("SoftmaxCrossEntropyLoss", 12, LAST, (logits, labels), reduction)
        yield Case("NegativeLogLikelihoodLoss", 12, LAST, (logits, labels), reduction)
