from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.recipe import Recipe
from harness.quantize.steps import float16_range
from tests.models import make_model
from tests.quantize.steps.test_shared_constants import normal

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from tests.quantize.steps.conftest import Bench

    Array = NDArray[Any]

FP16 = '[variants]\nmethods = ["fp16"]\n'
RECIPE = Recipe(name="fp16", method="fp16")
SIZE = 8
node = helper.make_node
LOWEST = float(np.finfo(np.float32).min)


def model(nodes: list[NodeProto], **weights: Any) -> ModelProto:
    """A model of x [4, 8] and y [4, 8], with a MatMul before and behind."""
    arrays = {name: each if isinstance(each, np.ndarray) else np.asarray(each, np.float32) for name, each in weights.items()}
    framed = [node("MatMul", ["x", "w"], ["a"], "first"), *nodes, node("MatMul", ["b", "v"], ["y"], "last")]
    arrays |= {"w": normal(0, SIZE, SIZE) / 3, "v": normal(1, SIZE, SIZE) / 3}
    return make_model(framed, {"x": [4, SIZE]}, {"y": [4, SIZE]}, arrays)


def norm() -> list[NodeProto]:
    """What exporters make of LayerNorm, on values so small that the epsilon counts."""
    return [
        node("Mul", ["a", "small"], ["s"], "shrink"),
        node("ReduceMean", ["s"], ["m"], "mean", axes=[-1]),
        node("Sub", ["s", "m"], ["d"], "center"),
        node("Mul", ["d", "zero"], ["z"], "nothing"),
        node("Mul", ["z", "z"], ["q"], "square"),
        node("ReduceMean", ["q"], ["u"], "variance", axes=[-1]),
        node("Add", ["u", "epsilon"], ["e"], "guard"),
        node("Sqrt", ["e"], ["r"], "root"),
        node("Div", ["z", "r"], ["n"], "divide"),
        node("Add", ["n", "a"], ["b"], "residual"),
    ]


def constant(name: str, value: Any, kind: Any = np.float32) -> NodeProto:
    return node("Constant", [], [name], f"make {name}", value=numpy_helper.from_array(np.asarray(value, kind)))


def branch() -> NodeProto:
    bodies = []
    for name in ("then", "else"):
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        made = [node("Mul", ["a", "big"], [f"{name}m"]), node("Mul", [f"{name}m", "tiny"], [name])]
        bodies.append(helper.make_graph(made, name, [], [output]))
    return node("If", ["c"], ["b"], "if", then_branch=bodies[0], else_branch=bodies[1])


CASES = {
    "scale and back": model([node("Mul", ["a", "k"], ["s"], "up"), node("Div", ["s", "k"], ["b"], "down")], k=[1e6] * SIZE),
    "to the end": model([node("Mul", ["a", "k"], ["b"], "up")], k=1e6),
    "tiny and back": model([node("Mul", ["a", "k"], ["s"], "down"), node("Div", ["s", "k"], ["b"], "up")], k=[3e-8] * SIZE),
    "one of a scale": model(
        [node("Mul", ["a", "k"], ["s"], "scale"), node("Mul", ["s", "l"], ["b"], "back")], k=[1] * 7 + [1e-9], l=[1] * 7 + [1e9]
    ),
    "epsilon": model(norm(), epsilon=1e-12, small=1e-3, zero=0),
    "epsilon in a node": model([constant("epsilon", 1e-12), *norm()], small=1e-3, zero=0),
    "epsilon of float64, cast": model(
        [constant("double", 1e-12, np.float64), node("Cast", ["double"], ["epsilon"], "cast", to=1), *norm()],
        small=1e-3,
        zero=0,
    ),
    "mask": model(
        [node("Add", ["a", "mask"], ["m"], "add"), node("Softmax", ["m"], ["b"], "softmax")], mask=[[LOWEST] + [0] * 7] * 4
    ),
    "mask by Where": model(
        [
            node("Greater", ["a", "zero"], ["g"], "greater"),
            node("Where", ["g", "a", "low"], ["m"], "where"),
            node("Softmax", ["m"], ["b"], "softmax"),
        ],
        zero=0,
        low=LOWEST,
    ),
    "filled": model(
        [
            node("ConstantOfShape", ["shape"], ["f"], "fill", value=numpy_helper.from_array(np.array([2e5], np.float32))),
            node("Mul", ["a", "f"], ["m"], "up"),
            node("Div", ["m", "f"], ["b"], "down"),
        ],
        shape=np.array([1, SIZE], np.int64),
    ),
    "in bodies": model(
        [node("ReduceSum", ["a"], ["t"], "sum", keepdims=0), node("Greater", ["t", "zero"], ["c"], "greater"), branch()],
        zero=0,
        big=1e6,
        tiny=1e-6,
    ),
    "shared with a Clip": model(
        [
            node("Clip", ["a", "", "k"], ["l"], "clip"),
            node("Mul", ["l", "k"], ["s"], "up"),
            node("Div", ["s", "k"], ["b"], "down"),
        ],
        k=1e6,
    ),
    "of one input and another": model(
        [
            node("Mul", ["a", "k"], ["s"], "up"),
            node("Mul", ["a", "k"], ["t"], "too"),
            node("Sub", ["s", "t"], ["d"], "sub"),
            node("Add", ["d", "s"], ["u"], "add"),
            node("Div", ["u", "k"], ["b"], "down"),
        ],
        k=1e6,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("half_inputs", [False, True])
def test_the_result_comes_near_fp32(bench: Bench, case: str, half_inputs: bool) -> None:
    bench.save(CASES[case], x=normal(3, 8, 4, SIZE))
    found = bench.build(FP16)["fp16"]
    if half_inputs:
        more = '[variants]\nmethods = []\n[[variant]]\nname = "fp16"\nmethod = "fp16"\nkeep_io_types = false\n'
        found = bench.build(more)["fp16"]
    assert found.state == "made", found.reason
    assert not any("does not load" in note for note in found.notes), found.notes
    (note,) = [note for note in found.notes if note.startswith("float16-range: ")]
    assert "float16" in note
    if not half_inputs:
        assert bench.fidelity({"fp16": found})["fp16"] > 40
        assert found.path
        kinds = {tensor.data_type for tensor in onnx.load(found.path).graph.initializer if len(tensor.dims) == 2}
        assert TensorProto.FLOAT16 in kinds, "what can be is float16"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (
            "scale and back",
            "float16-range: 'up', 'down' stay in float32: 8 values of 'k' are beyond float16's range, which ends at 65504",
        ),
        (
            "epsilon",
            "'guard' stays in float32: 1 value of 'epsilon' is too small for float16 and would become 0 or lose digits; so do 2 more",
        ),
        ("in bodies", "float16-range: 'if' stays in float32: 1 value of 'big' is beyond"),
    ],
)
def test_the_note_names_node_constant_and_count(bench: Bench, case: str, said: str) -> None:
    bench.save(CASES[case], x=normal(3, 8, 4, SIZE))
    assert said in bench.build(FP16)["fp16"].notes[0]


def test_an_epsilon_reaches_the_division_that_it_is_for() -> None:
    nodes = [
        node("ReduceL2", ["a"], ["n"], "norm", axes=[-1]),
        node("Clip", ["n", "epsilon", ""], ["c"], "clip"),
        node("Div", ["a", "c"], ["b"], "divide"),
    ]
    assert float16_range.decide(model(nodes, epsilon=1e-12), RECIPE, None).float_nodes == ("clip", "divide")


HARMLESS = {
    "limits": model([node("Clip", ["a", "low", "high"], ["b"], "clip")], low=LOWEST, high=-LOWEST),
    "infinity": model([node("Clip", ["a", "low", ""], ["b"], "clip")], low=-np.inf),
    "tiny weights among others": model([node("Add", ["a", "bias"], ["b"], "add")], bias=[1e-12, 1, 2, 3, 4, 5, 6, 1e-30]),
    "common epsilon": model([node("Add", ["a", "bias"], ["b"], "add")], bias=1e-5),
    "within": model([node("Mul", ["a", "k"], ["b"], "mul")], k=[65504, -65504, 0, 1e-4, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_float16_holds_well_enough_is_converted(case: str) -> None:
    assert not float16_range.decide(HARMLESS[case], RECIPE, None).float_nodes


def test_skipped_it_is_the_converters_own(bench: Bench) -> None:
    bench.save(CASES["to the end"], x=normal(3, 8, 4, SIZE))
    found = bench.build('[variants]\nmethods = ["fp16"]\nskip_steps = ["float16-range"]\n')["fp16-skip-float16-range"]
    assert not any("float32" in note for note in found.notes)
    assert bench.fidelity({"fp16": found})["fp16"] < 20
