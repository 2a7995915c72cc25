"""Where sentinels come in, how far they go, and what is taken for one."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from onnx import NodeProto, helper, numpy_helper

from harness.quantize.steps.sentinels import Search, extremes, is_absurd
from tests.quantize.steps.models import node

SMALL = (-3.0, 3.0)
STORED = {
    "big": np.float32(-1e9),
    "bias": np.array([20_000, -15_000, 9], np.float32),
    "mask": np.array([0, -10_000], np.float32),
    "zero": np.float32(0),
}


def search(nodes: list[NodeProto], ranges: dict[str, tuple[float, float]], levels: int = 255) -> Search:
    """Go over some nodes."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in STORED.items()]
    found = Search(helper.make_graph(nodes, "g", [], [], tensors), ranges, levels)
    found.run()
    return found


WHERE = node("Where", "c x big", "m", "where")


def test_a_sentinel_goes_up_to_where_it_is_gone() -> None:
    nodes = [
        WHERE,
        node("Reshape", "m shape", "r", "reshape"),
        node("Softmax", "r", "p", "softmax"),
        node("MatMul", "p v", "y", "matmul"),
    ]
    found = search(nodes, {"x": SMALL, "m": (-1e9, 3), "r": (-1e9, 3), "p": (0, 1), "v": SMALL, "y": SMALL})
    assert set(found.nodes) == {"where", "reshape", "softmax"}
    assert found.origins == {"where"}


def test_one_that_the_data_lack_is_followed_by_operators() -> None:
    nodes = [WHERE, node("Div", "m two", "r", "div"), node("Softmax", "r", "p", "softmax"), node("MatMul", "p v", "y", "matmul")]
    found = search(nodes, {"x": SMALL, "m": SMALL, "r": SMALL, "p": (0, 1), "v": SMALL, "y": SMALL})
    assert set(found.nodes) == {"where", "div", "softmax"}


@pytest.mark.parametrize(
    ("made", "ranges", "expected"),
    [
        (node("Add", "x mask", "m", "n"), {"x": SMALL, "m": (-10_003.0, 3.0)}, True),
        (node("Add", "x bias", "m", "n"), {"x": SMALL, "m": (-15_003.0, 20_003.0)}, False),
        (node("Add", "x zero", "m", "n"), {"x": SMALL, "m": SMALL}, False),
        (node("Add", "x k", "m", "n"), {"x": SMALL, "k": (-1e9, 0.0), "m": (-1e9, 3.0)}, True),
        (node("Add", "x k", "m", "n"), {"x": SMALL, "k": (-1e9, 5.0), "m": (-1e9, 3.0)}, False),
        (node("Concat", "x k", "m", "n", axis=0), {"x": (0.0, 1.0), "k": (0.0, 640.0), "m": (0.0, 640.0)}, False),
        (node("Where", "c zero big", "m", "n"), {"m": (-1e9, 0.0)}, False),
        (node("Relu", "x", "m", "n"), {"x": (-inf, 3.0), "m": (0.0, 3.0)}, True),
        (node("Relu", "x", "m", "n"), {"x": (-5.0, 30_000.0), "m": (0.0, 30_000.0)}, False),
    ],
)
def test_what_stays_in_float(made: NodeProto, ranges: dict[str, tuple[float, float]], expected: bool) -> None:
    assert ("n" in search([made], ranges).nodes) is expected


def test_a_pad_that_only_max_pools_take_saturates() -> None:
    """In QOperator models the smallest integer does what the least float does."""
    nodes = [node("Pad", "x pads big", "m", "pad"), node("MaxPool", "m", "y", "pool", kernel_shape=[2, 2])]
    ranges = {"x": SMALL, "m": (-3.4e38, 3.0), "y": SMALL}
    assert set(search(nodes, ranges).nodes) == {"pad", "pool"}
    found = Search(helper.make_graph(nodes, "g", [], []), ranges, 255, saturates=True)
    found.run()
    assert not found.nodes
    other = Search(helper.make_graph([*nodes, node("Relu", "m", "r", "relu")], "g", [], []), ranges, 255, saturates=True)
    other.run()
    assert {"pool", "relu"} <= set(other.nodes)


def test_sixteen_bits_hold_more() -> None:
    made, ranges = node("Add", "x mask", "m", "n"), {"x": SMALL, "m": (-10_003.0, 3.0)}
    assert search([made], ranges).nodes
    assert not search([made], ranges, levels=65_535).nodes


def test_extremes_of_constants() -> None:
    assert extremes(numpy_helper.from_array(np.array([1, -2], np.float16))) == (-2, 1)
    assert extremes(numpy_helper.from_array(np.array([1, 2]))) is None
    assert extremes(numpy_helper.from_array(np.zeros(0, np.float32))) is None
    assert extremes(numpy_helper.from_array(np.array([np.nan], np.float32))) is None


@pytest.mark.parametrize(
    ("low", "high", "absurd"), [(-inf, 0, True), (0, 3.4e38, True), (-1e9, 0, False), (0, float("nan"), True)]
)
def test_ranges_without_a_scale(low: float, high: float, absurd: bool) -> None:
    assert is_absurd(low, high) is absurd


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ((inf, -inf), "'x' has no values in the calibration data"),
        ((-inf, inf), "'x' has infinite values in the calibration data"),
        ((0.0, inf), "'x' has infinite values in the calibration data"),
        ((float("nan"), 1.0), "'x' has values that are not numbers (NaN) in the calibration data"),
        ((-3.4e38, 1.0), "the values of 'x' range from -3.4e+38 to 1"),
    ],
)
def test_a_range_that_no_scale_can_have_is_said_in_words(known: tuple[float, float], words: str) -> None:
    assert search([node("Relu", "x", "y", "relu")], {"x": known}).nodes == {"relu": words}
