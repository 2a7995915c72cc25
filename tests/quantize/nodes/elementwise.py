"""Operators on single numbers, and those along one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from tests.quantize.nodes.case import LAST, POSITIVE, RNG, X1, X2, X4, Case, fixed, forms, normal

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases() -> Iterator[Case]:
    for op in ("Abs", "Ceil", "Exp", "Floor", "Neg", "Reciprocal", "Relu", "Sigmoid", "Tanh", "Identity", "Softplus"):
        yield Case(op, 7, LAST, (X4,))
    for op in ("Log", "Sqrt"):
        yield Case(op, 7, LAST, (POSITIVE,))
    for op in ("Erf", "IsNaN", "Sign", "NonZero"):
        yield Case(op, 9, LAST, (X4,))
    for op in ("Add", "Sub", "Mul", "Div", "Pow", "Greater", "Less"):
        yield Case(op, 7, LAST, (POSITIVE, fixed(RNG.uniform(0.5, 2, (6,)), np.float32)))
        yield Case(op, 9 if op in {"Greater", "Less"} else 7, LAST, (np.arange(1, 7), fixed([2] * 6)))
    for op in ("GreaterOrEqual", "LessOrEqual"):
        yield Case(op, 12, LAST, (X4, fixed(X1, np.float32)))
    yield Case("Equal", 7, LAST, (np.arange(6), fixed([0, 1, 0, 3, 0, 5])))
    for op in ("Max", "Min", "Mean", "Sum"):
        yield Case(op, 8, LAST, (X4, fixed(X1, np.float32)))
        yield Case(op, 7, LAST, (X4, fixed(-X4, np.float32)))
    yield from _limits()
    yield from _axes()


def _limits() -> Iterator[Case]:
    for given in forms({}, {"min": -0.5}, {"max": 0.5}, {"min": -0.5, "max": 0.5}):
        yield Case("Clip", 7, 10, (X4,), given)
    yield Case("Clip", 11, LAST, (X4, fixed(-0.5, np.float32), fixed(0.5, np.float32)))
    yield Case("Clip", 11, LAST, (X4, None, fixed(0.5, np.float32)))
    for alpha in forms({}, {"alpha": 0.3}):
        yield Case("LeakyRelu", 7, LAST, (X4,), alpha)
    yield Case("PRelu", 7, LAST, (X4, fixed(normal(3, 1, 1), np.float32)))
    for fmod in forms({}, {"fmod": 1}):
        yield Case("Mod", 10, LAST, (np.arange(-6, 6), fixed([3])), fmod)
    yield Case("Mod", 10, LAST, (X4, fixed([0.7], np.float32)), {"fmod": 1})
    for given in forms({}, {"detect_negative": 0}, {"detect_positive": 0}):
        yield Case("IsInf", 10, LAST, (np.array([1, np.inf, -np.inf, np.nan], np.float32),), given)
    yield Case("Where", 9, LAST, (X4 > 0, X4, fixed(X1, np.float32)))
    for to in (TensorProto.INT32, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.UINT8):
        yield Case("Cast", 7, LAST, (POSITIVE,), {"to": to})


def _axes() -> Iterator[Case]:
    for axis in forms({}, {"axis": 0}, {"axis": 1}, {"axis": 2}, {"axis": 3}, {"axis": -1}, {"axis": -2}):
        low = 11 if axis.get("axis", 0) < 0 else 7
        for op in ("Softmax", "LogSoftmax", "Hardmax"):
            yield Case(op, low, LAST, (X4,), axis)
            yield Case(op, low, LAST, (X2,), axis) if abs(axis.get("axis", 0)) < 2 else Case(op, 7, LAST, (X4,), {"axis": 1})
