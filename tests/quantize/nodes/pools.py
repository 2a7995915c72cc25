"""Operators that pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quantize.nodes.case import IMAGE, LAST, Case, fixed, forms, normal

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases() -> Iterator[Case]:
    for op in ("AveragePool", "MaxPool", "LpPool"):
        for given in forms(
            {"kernel_shape": [3, 2]},
            {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        ):
            yield Case(op, 7, LAST, (IMAGE,), given)
    yield Case("AveragePool", 7, LAST, (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1})
    for op in ("AveragePool", "MaxPool"):
        (given,) = forms({"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})
        yield Case(op, 10, LAST, (normal(1, 3, 8, 10),), given)
        yield Case(op, 10, LAST, (normal(1, 3, 8, 10),), given | {"pads": [1, 1, 1, 1]})
        yield Case(op, 19 if op == "AveragePool" else 10, LAST, (IMAGE,), {"kernel_shape": [2, 2], "dilations": [2, 2]})
    yield Case("AveragePool", 10, LAST, (normal(1, 3, 8, 10),), given | {"count_include_pad": 1, "pads": [1, 1, 1, 1]})
    yield Case("MaxPool", 8, LAST, (IMAGE,), {"kernel_shape": [2, 2], "strides": [2, 2]}, 2)
    pooled, places = np.ones((1, 1, 2, 2), np.float32), fixed([[[[5, 7], [13, 15]]]])
    yield Case("MaxUnpool", 9, LAST, (pooled, places), {"kernel_shape": [2, 2], "strides": [2, 2]})
