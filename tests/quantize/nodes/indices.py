"""Operators with indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quantize.nodes.case import LAST, RNG, X2, X4, Case, fixed, forms

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases() -> Iterator[Case]:
    for axis in forms({}, {"axis": 1}):
        yield Case("Gather", 7, LAST, (X4, fixed([1, 0])), axis)
        yield Case("GatherElements", 11, LAST, (X2, fixed([[0, 1, 2, 0]])), axis)
        yield Case("Compress", 9, LAST, (X2, fixed([True, False, True], bool)), axis)
        yield Case("Scatter", 9, 10, (X2, fixed([[2, 0, 1, 1]]), fixed([[9, 8, 7, 6]], np.float32)), axis)
        yield Case("ScatterElements", 11, LAST, (X2, fixed([[2, 0, 1, 1]]), fixed([[9, 8, 7, 6]], np.float32)), axis)
    yield Case("Compress", 9, LAST, (X2, fixed([True, False, True], bool)), {"axis": 0})
    yield Case("Gather", 11, LAST, (X4, fixed([-1, 0])), {"axis": -1})
    yield Case(
        "ScatterElements",
        16,
        LAST,
        (X2, fixed([[2, 0, 1, 1]]), fixed([[9, 8, 7, 6]], np.float32)),
        {"axis": 1, "reduction": "add"},
    )
    yield Case("GatherND", 11, LAST, (X4, fixed([[0, 1], [1, 2]])))
    yield Case("GatherND", 12, LAST, (X4, fixed([[0], [1]])), {"batch_dims": 1})
    yield Case("ScatterND", 11, LAST, (X2, fixed([[0], [2]]), fixed([[1] * 4, [2] * 4], np.float32)))
    yield Case("ScatterND", 16, LAST, (X2, fixed([[0], [2]]), fixed([[1] * 4, [2] * 4], np.float32)), {"reduction": "mul"})
    yield Case("TopK", 7, 9, (X4,), {"k": 2}, 2)
    yield Case("TopK", 7, 9, (X4,), {"k": 2, "axis": 2}, 2)
    yield Case("TopK", 10, LAST, (X4, fixed([2])), {}, 2)
    yield Case("TopK", 11, LAST, (X4, fixed([2])), {"largest": 0, "axis": 1}, 2)
    for axis in forms({}, {"axis": 0}):
        yield Case("OneHot", 9, LAST, (np.array([1, 0, 2]), fixed([3]), fixed([0.5, 2], np.float32)), axis)
    boxes = np.sort(RNG.uniform(0, 1, (1, 5, 2, 2)), axis=2).reshape(1, 5, 4).astype(np.float32)
    scores = RNG.uniform(0, 1, (1, 2, 5)).astype(np.float32)
    limits = (fixed([3]), fixed([0.5], np.float32), fixed([0.1], np.float32))
    for given in forms({}, {"center_point_box": 1}):
        yield Case("NonMaxSuppression", 10, LAST, (boxes, fixed(scores, np.float32), *limits), given)
