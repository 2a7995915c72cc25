"""Operators with bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.quantize.nodes.case import LAST, X4, Case, fixed, normal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, NodeProto


def body(kind: str, opset_inputs: list[str], nodes: list[NodeProto], outputs: list[str]) -> GraphProto:
    """A body of an If, Loop or Scan whose values have no shapes."""
    return helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in opset_inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )


def cases() -> Iterator[Case]:
    softmax = body("then", [], [helper.make_node("Softmax", ["i1"], ["s"], axis=1)], ["s"])
    other = body("else", [], [helper.make_node("Relu", ["i1"], ["r"])], ["r"])
    for choice in (True, False):
        yield Case("If", 7, LAST, (np.array(choice), X4), {"then_branch": softmax, "else_branch": other})
    added = [helper.make_node("Unsqueeze", ["i1"], ["t"], axes=[0]), helper.make_node("Squeeze", ["t"], ["s"], axes=[0])]
    summed = [helper.make_node("ReduceSum", ["i1"], ["t"], axes=[1]), helper.make_node("Sub", ["i1", "t"], ["r"])]
    squeezed, reduced = body("then", [], added, ["s"]), body("else", [], summed, ["r"])
    sizes = numpy_helper.from_array(np.array([1, 1, 1.5, 2.5], np.float32), "sc")
    scales = helper.make_node("Constant", [], ["sc"], value=sizes)
    grown = helper.make_node("Resize", ["i1", "sc"], ["t"], mode="nearest")
    hardmax = body("else", [], [scales, grown, helper.make_node("Hardmax", ["t"], ["r"])], ["r"])
    resized = body("then", [], [scales, helper.make_node("Resize", ["i1", "sc"], ["s"], mode="linear")], ["s"])
    for choice in (True, False):
        yield Case("If", 7, 12, (np.array(choice), X4), {"then_branch": squeezed, "else_branch": reduced})
        yield Case("If", 10, 10, (np.array(choice), X4), {"then_branch": resized, "else_branch": hardmax})
    inside = [body(kind, [], [helper.make_node(kind, ["v"], ["s"])], ["s"]) for kind in ("Softmax", "Hardmax")]
    inner = helper.make_node("If", ["c"], ["w"], then_branch=inside[0], else_branch=inside[1])
    passed = helper.make_node("Identity", ["c"], ["d"])
    more = helper.make_node("Add", ["v", "w"], ["u"])
    turns = helper.make_graph(
        [passed, inner, more],
        "turns",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), onnx.ValueInfoProto(name="u")],
    )
    for start in (True, False):
        yield Case("Loop", 7, 12, (fixed(3), np.array(start), X4), {"body": turns})
    step = helper.make_graph(
        [helper.make_node("Add", ["state", "each"], ["next"]), helper.make_node("Softmax", ["next"], ["given"], axis=0)],
        "step",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("state", "each")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("next", "given")],
    )
    yield Case("Scan", 8, 8, (None, normal(1, 4), normal(1, 3, 4)), {"body": step, "num_scan_inputs": 1}, 2)
    yield Case("Scan", 9, LAST, (normal(4), normal(3, 4)), {"body": step, "num_scan_inputs": 1}, 2)
    yield Case("Scan", 9, LAST, (normal(4), normal(3, 4)), {"body": step, "num_scan_inputs": 1, "scan_input_directions": [1]}, 2)
    yield Case("CastLike", 15, LAST, (X4, fixed([1])))
