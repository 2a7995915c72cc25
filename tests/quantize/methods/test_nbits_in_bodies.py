"""Weights in blocks that the bodies of If, Loop and Scan take from outside: each model loads with onnxruntime's optimizations, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.build import build
from harness.study import study as studies
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import GraphProto, NodeProto

SIZE = 32
node = helper.make_node
HELD: dict[str, Any] = {
    "w": np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32) / 6,
    "v": np.random.default_rng(1).standard_normal((SIZE, SIZE)).astype(np.float32) / 6,
    "zero": np.array(0, np.float32),
    "trips": np.array(2, np.int64),
    "true": np.array(1, bool),
}


def value(name: str, *shape: int, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def body(name: str, *nodes: NodeProto, holds: tuple[str, ...] = ()) -> GraphProto:
    held = [numpy_helper.from_array(HELD[each[0]], each) for each in holds]
    return helper.make_graph(nodes, name, [], [value(nodes[-1].output[0], 4, SIZE)], held)


def chosen(then: GraphProto, otherwise: GraphProto, output: str) -> list[NodeProto]:
    return [
        node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        node("Greater", ["s", "zero"], ["c"], "greater"),
        node("If", ["c"], [output], "if", then_branch=then, else_branch=otherwise),
    ]


def one_branch() -> list[NodeProto]:
    then = body("then", node("MatMul", ["x", "w"], ["t"], "inner"))
    return [*chosen(then, body("else", node("Neg", ["x"], ["e"], "neg")), "i"), node("MatMul", ["i", "v"], ["y"], "last")]


def both_branches_and_outside() -> list[NodeProto]:
    then = body("then", node("MatMul", ["x", "w"], ["t"], "left"), node("MatMul", ["t", "w"], ["u"], "again"))
    otherwise = body("else", node("Neg", ["x"], ["n"], "neg"), node("MatMul", ["n", "w"], ["e"], "right"))
    return [*chosen(then, otherwise, "i"), node("MatMul", ["i", "w"], ["y"], "last")]


def nested() -> list[NodeProto]:
    """An If in an If, whose weight the outer branch holds; the other branch holds another one of that name."""
    inner = body("inner", node("MatMul", ["x", "w_held"], ["t"], "deep"))
    deeper = node("If", ["c"], ["d"], "if_inside", then_branch=inner, else_branch=body("other", node("Neg", ["x"], ["o"], "neg")))
    then = body("then", deeper, holds=("w_held",))
    otherwise = body("else", node("MatMul", ["x", "v_held"], ["e"], "right"), holds=("v_held",))
    otherwise.initializer[0].name = otherwise.node[0].input[1] = "w_held"
    return chosen(then, otherwise, "y")


def loop() -> list[NodeProto]:
    inner = helper.make_graph(
        [
            node("Identity", ["going"], ["go"], "same"),
            node("MatMul", ["state", "w"], ["m"], "inner"),
            node("Tanh", ["m"], ["next"], "tanh"),
        ],
        "loop",
        [value("i", kind=TensorProto.INT64), value("going", kind=TensorProto.BOOL), value("state", 4, SIZE)],
        [value("go", kind=TensorProto.BOOL), value("next", 4, SIZE)],
    )
    return [node("Loop", ["trips", "true", "x"], ["y"], "loop", body=inner)]


def scan() -> list[NodeProto]:
    inner = helper.make_graph(
        [
            node("Unsqueeze", ["row", "trips_none"], ["r"], "matrix"),
            node("MatMul", ["r", "w"], ["m"], "inner"),
            node("Add", ["m", "state"], ["next"], "add"),
            node("Identity", ["m"], ["each"], "same"),
        ],
        "scan",
        [value("state", 1, SIZE), value("row", SIZE)],
        [value("next", 1, SIZE), value("each", 1, SIZE)],
        [numpy_helper.from_array(np.array([0]), "trips_none")],
    )
    return [
        node("Slice", ["x", "from", "to"], ["first"], "slice"),
        node("Scan", ["first", "x"], ["last", "all"], "scan", body=inner, num_scan_inputs=1),
        node("Squeeze", ["all", "one"], ["y"], "squeeze"),
    ]


@pytest.mark.parametrize("symmetric", ["true", "false"])
@pytest.mark.parametrize("nodes", [one_branch, both_branches_and_outside, nested, loop, scan], ids=lambda each: each.__name__)
def test_bodies(tmp_path: Path, nodes: Callable[[], list[NodeProto]], symmetric: str) -> None:
    held = {**HELD, "from": np.array([0]), "to": np.array([1]), "one": np.array([1])}
    onnx.save(make_model(nodes(), {"x": [4, SIZE]}, {"y": [4, SIZE]}, held), tmp_path / "m.onnx")
    text = 'name = "t"\n[model]\npath = "m.onnx"\n[variants]\nmethods = []\n' + "".join(
        f'[[variant]]\nmethod = "nbits"\nformat = "{each}"\nsymmetric = {symmetric}\n' for each in ("QDQ", "QOperator")
    )
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    reference, *variants = build(studies.load(tmp_path), tmp_path / "out")
    x = np.random.default_rng(2).standard_normal((4, SIZE)).astype(np.float32)
    for sign in (1, -1):
        expected, *found = (run(str(each.path), np.float32(sign) * x) for each in (reference, *variants))
        for each in found:
            assert np.linalg.norm(each - expected) < 0.25 * np.linalg.norm(expected)


def run(path: str, x: Any) -> Any:
    return onnxruntime.InferenceSession(path).run(["y"], {"x": x})[0]
