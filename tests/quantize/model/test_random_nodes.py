"""Random nodes are found wherever they are, and only where they matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from harness.quantize.model import random_nodes

SHAPE = [4, 16]


def value(name: str, shape: list[int] | None = None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, SHAPE if shape is None else shape)


def constant(name: str, array: Any, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array, dtype), name)


def model(nodes: list[NodeProto], constants: list[TensorProto] | None = None, functions: Any = ()) -> ModelProto:
    """A model from 'x' to 'y', both float32 [4, 16]."""
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], constants or [])
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8, functions=list(functions))


def noise(kind: str = "RandomNormalLike", **attributes: Any) -> list[NodeProto]:
    return [
        helper.make_node(kind, ["x"], ["n"], name="noise", **attributes),
        helper.make_node("Add", ["x", "n"], ["y"], name="add"),
    ]


def dropout(*inputs: str, kind: str = "Dropout", **attributes: Any) -> list[NodeProto]:
    return [helper.make_node(kind, ["x", *inputs], ["y"], name="drop", **attributes)]


def texts(made: ModelProto) -> list[str]:
    return [node.text for node in random_nodes.find(made)]


@pytest.mark.parametrize("kind", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_operators_that_draw(kind: str) -> None:
    assert texts(model(noise(kind))) == [f"{kind} 'noise'"]


def test_a_seed_makes_no_difference() -> None:
    assert texts(model(noise(seed=1.0))) == ["RandomNormalLike 'noise'"]


def test_a_node_without_a_name_is_named_by_its_output() -> None:
    nodes = noise()
    nodes[0].name = ""
    assert texts(model(nodes)) == ["RandomNormalLike 'n'"]


def test_what_no_output_depends_on_is_left_out() -> None:
    unused = helper.make_node("RandomNormalLike", ["x"], ["n"], name="noise")
    assert texts(model([unused, helper.make_node("Relu", ["x"], ["y"])])) == []


RATIO, NONE, TRUE, FALSE = (
    constant("r", 0.5),
    constant("r", 0.0),
    constant("t", True, np.bool_),
    constant("t", False, np.bool_),
)


@pytest.mark.parametrize(
    ("inputs", "constants", "found"),
    [
        ((), [], False),
        (("r",), [RATIO], False),
        (("r", "t"), [RATIO, FALSE], False),
        (("r", "t"), [NONE, TRUE], False),
        (("r", "t"), [RATIO, TRUE], True),
        (("", "t"), [TRUE], True),
    ],
)
def test_dropout_draws_in_training_mode_alone(inputs: tuple[str, ...], constants: list[TensorProto], *, found: bool) -> None:
    assert texts(model(dropout(*inputs), constants)) == (["Dropout 'drop'"] if found else [])


def test_training_mode_may_be_a_constant_node() -> None:
    node = helper.make_node("Constant", [], ["t"], value=TRUE)
    assert texts(model([node, *dropout("r", "t")], [RATIO])) == ["Dropout 'drop'"]


def test_training_mode_that_is_computed_is_not_certain() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["t"]),
        *dropout("r", "t"),
    ]
    (found,) = random_nodes.find(model(nodes, [RATIO, constant("zero", 0)]))
    assert (found.op_type, found.certain) == ("Dropout", False)


def test_onnxruntimes_own_dropout() -> None:
    node = helper.make_node("BiasDropout", ["x", "b", "", "r", "t"], ["y"], name="drop", domain="com.microsoft")
    assert texts(model([node], [constant("b", np.ones(16)), RATIO, TRUE])) == ["BiasDropout 'drop'"]


def test_bodies() -> None:
    body = helper.make_graph(
        [helper.make_node("RandomNormalLike", ["x"], ["n"], name="inner"), helper.make_node("Add", ["x", "n"], ["o"])],
        "then", [], [value("o")],
    )  # fmt: skip
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "else", [], [value("o")])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], name="choice", then_branch=body, else_branch=other),
    ]
    assert texts(model(nodes, [constant("zero", 0)])) == ["RandomNormalLike 'inner' in If 'choice'"]


def test_functions_are_looked_into_where_they_are_called() -> None:
    inner = [helper.make_node("RandomNormalLike", ["a"], ["n"], name="inner"), helper.make_node("Add", ["a", "n"], ["b"])]
    function = helper.make_function("my", "Noise", ["a"], ["b"], inner, [helper.make_opsetid("", 17)])
    called = helper.make_node("Noise", ["x"], ["y"], name="call", domain="my")
    assert texts(model([called], functions=[function])) == ["RandomNormalLike 'inner' in function Noise"]
    assert texts(model([helper.make_node("Relu", ["x"], ["y"])], functions=[function])) == []


def test_a_function_that_only_has_such_a_name_is_none() -> None:
    inner = [helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function("my", "RandomCrop", ["a"], ["b"], inner, [helper.make_opsetid("", 17)])
    called = helper.make_node("RandomCrop", ["x"], ["y"], name="call", domain="my")
    assert texts(model([called], functions=[function])) == []


def test_many_are_counted() -> None:
    found = tuple(random_nodes.RandomNode("RandomNormal", f"n{index}") for index in range(6))
    assert random_nodes.listed(found).endswith("RandomNormal 'n3' and 2 more")
