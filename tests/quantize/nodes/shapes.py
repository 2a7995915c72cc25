"""Operators that move, cut and join tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from tests.quantize.nodes.case import LAST, X2, X4, Case, fixed, forms, normal

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases() -> Iterator[Case]:
    for given in forms({}, {"axis": 0}, {"axis": 2}, {"axis": 4}):
        yield Case("Flatten", 7, LAST, (X4,), given)
    yield Case("Flatten", 11, LAST, (X4,), {"axis": -2})
    yield Case("Reshape", 7, LAST, (X4, fixed([0, -1, 4])))
    yield Case("Reshape", 14, LAST, (np.zeros((0, 3), np.float32), fixed([3, 0])), {"allowzero": 1})
    one = X4[:1, :, :1]
    yield Case("Squeeze", 7, 12, (one,))
    yield Case("Squeeze", 7, 12, (one,), {"axes": [0, 2]})
    yield Case("Squeeze", 11, 12, (one,), {"axes": [-2]})
    yield Case("Squeeze", 13, LAST, (one, fixed([0, -2])))
    yield Case("Unsqueeze", 7, 12, (X2,), {"axes": [0, 2]})
    yield Case("Unsqueeze", 11, 12, (X2,), {"axes": [-1]})
    yield Case("Unsqueeze", 13, LAST, (X2, fixed([0, -1])))
    for given in forms({}, {"perm": [2, 0, 1, 3]}):
        yield Case("Transpose", 7, LAST, (X4,), given)
    for op in ("Shape", "Size"):
        yield Case(op, 7, LAST, (X4,))
    yield Case("Shape", 15, LAST, (X4,), {"start": 1, "end": -1})
    for axis in (0, 1, 3):
        yield Case("Concat", 7, LAST, (X4, fixed(X4, np.float32)), {"axis": axis})
    yield Case("Concat", 11, LAST, (X4, fixed(X4, np.float32)), {"axis": -1})
    yield Case("Expand", 8, LAST, (X2, fixed([2, 3, 4])))
    yield Case("Tile", 7, LAST, (X2, fixed([2, 3])))
    yield Case("ConstantOfShape", 9, LAST, (np.array([2, 3]),), {"value": helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5])})
    yield Case("ConstantOfShape", 9, LAST, (np.array([2, 3]),))
    yield Case("Constant", 7, LAST, (), {"value": helper.make_tensor("v", TensorProto.FLOAT, [2], [1.5, 2])})
    yield Case("Constant", 12, LAST, (), {"value_floats": [1.5, 2.0]})
    yield Case("Split", 7, 12, (X4,), {"axis": 3}, 3)
    yield Case("Split", 7, 12, (X4,), {"axis": 3, "split": [1, 5]}, 2)
    yield Case("Split", 7, 12, (X4,), {}, 2)
    yield Case("Split", 13, 17, (X4,), {"axis": -1}, 3)
    yield Case("Split", 13, LAST, (X4, fixed([1, 5])), {"axis": 3}, 2)
    yield Case("Split", 18, LAST, (X4,), {"axis": 3, "num_outputs": 3}, 3)
    yield Case("Slice", 7, 9, (X4,), {"starts": [1, 0], "ends": [3, -1], "axes": [1, 3]})
    yield Case("Slice", 7, 9, (X4,), {"starts": [0, 1], "ends": [1, 1000]})
    yield Case("Slice", 10, LAST, (X4, fixed([4, 0]), fixed([0, 3]), fixed([3, 1]), fixed([-1, 2])))
    for mode in ("constant", "reflect", "edge"):
        pads = [0, 0, 1, 2, 0, 0, 2, 1]
        yield Case("Pad", 7, 10, (X4,), {"mode": mode, "pads": pads})
        yield Case("Pad", 7, 10, (X4,), {"mode": mode, "pads": pads, "value": 1.5})
        yield Case("Pad", 11, LAST, (X4, fixed(pads)), {"mode": mode})
    yield Case("Pad", 7, 10, (X4,), {"pads": [0, 0, 1, 0, 0, 0, 0, 1], "value": 1.5})
    yield Case("Pad", 7, 10, (X4,), {"pads": [0, 0, -1, 0, 0, 0, 0, 1]})
    yield Case("Pad", 11, LAST, (X4, fixed([0, 0, 1, 0, 0, 0, 0, 1]), fixed(1.5, np.float32)))
    yield Case("Pad", 18, LAST, (X4, fixed([1, 2]), None, fixed([2])))
    square = normal(1, 8, 4, 6)
    for order in forms({}, {"mode": "DCR"}, {"mode": "CRD"}):
        yield Case("DepthToSpace", 11 if order else 7, LAST, (square,), {"blocksize": 2, **order})
    yield Case("SpaceToDepth", 7, LAST, (square,), {"blocksize": 2})
