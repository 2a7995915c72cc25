"""Operators that take axes away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quantize.nodes.case import LAST, POSITIVE, X4, Case, fixed, forms

if TYPE_CHECKING:
    from collections.abc import Iterator


def cases() -> Iterator[Case]:
    kinds = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    for kind in kinds:
        last = 12 if kind == "Sum" else 17
        for given in forms({}, {"axes": [1]}, {"axes": [0, 2]}, {"axes": [2], "keepdims": 0}):
            yield Case(f"Reduce{kind}", 7, last, (POSITIVE,), given)
        yield Case(f"Reduce{kind}", 11, last, (POSITIVE,), {"axes": [-1]})
        yield Case(f"Reduce{kind}", last + 1, LAST, (POSITIVE, fixed([1, -1])), {"keepdims": 0})
        yield Case(f"Reduce{kind}", last + 1, LAST, (POSITIVE,))
        yield Case(f"Reduce{kind}", last + 1, LAST, (POSITIVE, fixed([])), {"noop_with_empty_axes": 1})
    for op in ("ArgMax", "ArgMin"):
        for given in forms({}, {"axis": 2}, {"axis": 1, "keepdims": 0}):
            yield Case(op, 7, LAST, (X4,), given)
        yield Case(op, 11, LAST, (X4,), {"axis": -1})
        yield Case(op, 12, LAST, (np.array([[1, 1], [2, 2]], np.float32),), {"axis": 1, "select_last_index": 1})
    for given in forms({}, {"exclusive": 1}, {"reverse": 1}):
        yield Case("CumSum", 11, LAST, (X4, fixed(2)), given)
