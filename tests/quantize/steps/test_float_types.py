from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.recipe import Recipe
from harness.quantize.steps import float_types
from tests.models import make_model
from tests.quantize.steps.conftest import Bench, decibels, run
from tests.quantize.steps.test_shared_constants import normal

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    Array = NDArray[Any]

ALL = (
    '[variants]\nmethods = ["static", "dynamic", "nbits", "fp16", "prepared"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
    "per_channel = [true]\n"
)
DYNAMIC = Recipe(name="r", method="dynamic")
F16, F32, F64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE
WORDS: dict[int, str] = {F16: "float16", F64: "float64"}
NUMPY: dict[int, Any] = {F16: np.float16, F32: np.float32, F64: np.float64}
SIZE = 32
node = helper.make_node


def model(
    kind: int, nodes: Callable[[int], list[NodeProto]], *, border: int | None = None, functions: Any = (), **weights: Any
) -> ModelProto:
    """A model of x [4, 32] and y [4, 32] that computes in a type, between two MatMuls; ``border``: the type of x and y."""
    arrays = {"w": normal(0, SIZE, SIZE) / 5, "v": normal(1, SIZE, SIZE) / 5, **weights}
    stored = [
        numpy_helper.from_array(each if each.dtype.kind != "f" else each.astype(NUMPY[kind]), name)
        for name, each in arrays.items()
    ]
    border = border or kind
    framed = [node("MatMul", ["x", "w"], ["a"], "first"), *nodes(kind), node("MatMul", ["b", "v"], ["y"], "last")]
    if border != kind:
        framed[0].input[0], framed[-1].output[0] = "xk", "yk"
        framed = [node("Cast", ["x"], ["xk"], "into", to=kind), *framed, node("Cast", ["yk"], ["y"], "back", to=border)]
    values = [helper.make_tensor_value_info(name, border, [4, SIZE]) for name in "xy"]
    graph = helper.make_graph(framed, "g", values[:1], values[1:], stored)
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(each.domain, 1) for each in functions)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))
    onnx.checker.check_model(made, full_check=True)
    return made


def plain(_: int) -> list[NodeProto]:
    return [node("Tanh", ["a"], ["b"], "tanh")]


def constants(kind: int) -> list[NodeProto]:
    """Constants of every sort, and casts within."""
    number = numpy_helper.from_array(np.array([0.5], NUMPY[kind]))
    return [
        node("Constant", [], ["half"], "half", value=number),
        node("Shape", ["a"], ["s"], "shape"),
        node("ConstantOfShape", ["s"], ["filled"], "fill", value=number),
        node("Cast", ["s"], ["sk"], "sizes", to=kind),
        node("ReduceMean", ["sk"], ["mean"], "mean", keepdims=0),
        node("EyeLike", ["a"], ["eye"], "eye", dtype=kind),
        node("Cast", ["a"], ["af"], "to float", to=F32),
        node("Tanh", ["af"], ["tf"], "tanh"),
        node("CastLike", ["tf", "half"], ["t"], "like"),
        node("Mul", ["t", "half"], ["m"], "mul"),
        node("Add", ["m", "filled"], ["n"], "add"),
        node("Div", ["n", "mean"], ["o"], "div"),
        node("Add", ["o", "eye"], ["b"], "add eye"),
    ]


def branches(kind: int) -> list[NodeProto]:
    """An If whose bodies have constants of their own and take some from outside."""
    bodies = []
    for name in ("then", "else"):
        output = helper.make_tensor_value_info(name, kind, None)
        own = numpy_helper.from_array(np.array(0.25, NUMPY[kind]), f"own {name}")
        made = [node("Mul", ["a", f"own {name}"], [f"{name}m"]), node("MatMul", [f"{name}m", "w"], [name])]
        bodies.append(helper.make_graph(made, name, [], [output], [own]))
    return [
        node("ReduceSum", ["a"], ["sum"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], ["c"], "greater"),
        node("If", ["c"], ["b"], "if", then_branch=bodies[0], else_branch=bodies[1]),
    ]


def loops(kind: int) -> list[NodeProto]:
    """A Loop that carries a tensor."""
    value = helper.make_tensor_value_info
    ins = [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("carried", kind, [4, SIZE])]
    outs = [value("on", TensorProto.BOOL, []), value("next", kind, [4, SIZE])]
    made = [node("Identity", ["go"], ["on"]), node("MatMul", ["carried", "w"], ["mm"]), node("Tanh", ["mm"], ["next"])]
    return [node("Loop", ["trips", "", "a"], ["b"], "loop", body=helper.make_graph(made, "body", ins, outs))]


def called(_: int) -> list[NodeProto]:
    return [node("Halve", ["a"], ["b"], "call", domain="own")]


def halve(kind: int) -> Any:
    number = numpy_helper.from_array(np.array(0.5, NUMPY[kind]))
    nodes = [node("Constant", [], ["k"], value=number), node("Cast", ["x"], ["c"], to=kind), node("Mul", ["c", "k"], ["y"])]
    return helper.make_function("own", "Halve", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])


CASES: dict[str, Callable[[int], ModelProto]] = {
    "plain": lambda kind: model(kind, plain),
    "float32 outside": lambda kind: model(kind, plain, border=F32),
    "constants": lambda kind: model(kind, constants),
    "branches": lambda kind: model(kind, branches, zero=np.array(0.0)),
    "loops": lambda kind: model(kind, loops, trips=np.array(2, np.int64)),
    "functions": lambda kind: model(kind, called, functions=[halve(kind)]),
}


@pytest.mark.parametrize("kind", [F16, F64], ids=["float16", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_each_recipe_comes_near_fp32(bench: Bench, case: str, kind: int) -> None:
    made = CASES[case](kind)
    border = made.graph.input[0].type.tensor_type.elem_type
    bench.save(made, x=normal(3, 16, 4, SIZE).astype(NUMPY[border]))
    variants = bench.build(ALL)
    for name, variant in variants.items():
        assert variant.state == "made", (name, variant.reason)
        assert not any("on this machine does not load" in note or "nothing was quantized" in note for note in variant.notes), (
            variant.notes
        )
        assert variant.path
        graph = onnx.load(variant.path).graph
        assert [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)] == [border, border]
        if variant.recipe.method in {"static", "dynamic", "nbits"}:
            word = WORDS[kind]
            assert any(f"the model computes in {word} and was converted to float32" in note for note in variant.notes)
            integers = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4}
            assert integers & {tensor.data_type for tensor in graph.initializer if len(tensor.dims) > 1}
    for name, found in bench.fidelity(variants).items():
        assert found > {"nbits": 12, "fp16": 35, "prepared": 45}.get(variants[name].recipe.method, 20), (name, found)
    assert variants["fp32"].path
    assert variants["fp32"].path.read_bytes() == (bench.folder / "m.onnx").read_bytes()


@pytest.mark.parametrize("kind", [F16, F64], ids=["float16", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_nothing_of_the_type_is_left_inside(case: str, kind: int) -> None:
    made = CASES[case](kind)
    border = made.graph.input[0].type.tensor_type.elem_type
    feed = {"x": normal(3, 4, SIZE).astype(NUMPY[border])}
    before = run(made.SerializeToString(), feed, optimized=False)
    found = float_types.find(made, DYNAMIC)
    assert found == (WORDS[kind],)
    float_types.rewrite(made, found)
    onnx.checker.check_model(made, full_check=True)
    assert not float_types.find(made, DYNAMIC)
    after = run(made.SerializeToString(), feed, optimized=False)
    assert before[0].dtype == after[0].dtype
    assert decibels(before, after) > 50
    inferred = onnx.shape_inference.infer_shapes(made)
    kinds = {value.name for value in inferred.graph.value_info if value.type.tensor_type.elem_type == kind}
    assert not kinds


def test_bfloat16() -> None:
    """No kernel of onnxruntime computes in it, so that there is nothing to compare with."""
    made = model(F32, plain)
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.BFLOAT16, values.shape, values.ravel().tolist()))
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    assert float_types.find(made, DYNAMIC) == ("bfloat16",)
    float_types.rewrite(made, ("bfloat16",))
    onnx.checker.check_model(made, full_check=True)
    assert not float_types.find(made, DYNAMIC)
    assert {tensor.data_type for tensor in made.graph.initializer} == {F32}


def weights_behind_casts() -> ModelProto:
    """A float32 model whose weights are stored as float16."""
    nodes = [
        node("Cast", ["wh"], ["w"], "unpack w", to=F32),
        node("MatMul", ["x", "w"], ["a"], "first"),
        node("Relu", ["a"], ["r"], "relu"),
        node("Cast", ["vh"], ["v"], "unpack v", to=F32),
        node("MatMul", ["r", "v"], ["y"], "last"),
    ]
    weights = {"wh": (normal(0, SIZE, SIZE) / 5).astype(np.float16), "vh": (normal(1, SIZE, SIZE) / 5).astype(np.float16)}
    return make_model(nodes, {"x": [4, SIZE]}, {"y": [4, SIZE]}, weights)


def test_weights_behind_casts(bench: Bench) -> None:
    bench.save(weights_behind_casts(), x=normal(3, 16, 4, SIZE))
    variants = bench.build(ALL)
    assert {each.state for each in variants.values()} == {"made"}
    found = bench.fidelity(variants)
    assert min(found[name] for name in variants if variants[name].recipe.method != "nbits") > 30


def test_float64_in_the_arithmetic_of_sizes_is_left(bench: Bench) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "first"),
        node("Shape", ["a"], ["s"], "shape"),
        node("Cast", ["s"], ["d"], "double", to=F64),
        node("Mul", ["d", "k"], ["e"], "mul"),
        node("Cast", ["e"], ["i"], "int", to=TensorProto.INT64),
        node("Reshape", ["a", "i"], ["y"], "reshape"),
    ]
    made = make_model(nodes, {"x": [4, SIZE]}, {"y": [4, SIZE]}, {"w": normal(0, SIZE, SIZE), "k": np.array(1.0)})
    assert not float_types.find(made, DYNAMIC)
    bench.save(made, x=normal(3, 16, 4, SIZE))
    assert not any("converted" in note for note in bench.build(ALL)["dynamic-S8-pc"].notes)


def test_a_constant_beyond_float32_is_refused_by_name(bench: Bench) -> None:
    made = model(F64, lambda _: [node("Mul", ["a", "huge"], ["b"], "mul")], huge=np.array([1e300] * SIZE))
    bench.save(made, x=normal(3, 16, 4, SIZE).astype(np.float64))
    variants = bench.build('[variants]\nmethods = ["dynamic"]\nweights = ["QInt8"]\n')
    assert variants["dynamic-S8"].state == "failed"
    assert variants["dynamic-S8"].reason
    assert "constant 'huge' holds values beyond float32's range, such as 1e+300" in variants["dynamic-S8"].reason


def test_what_needs_float64_is_refused_by_name(bench: Bench) -> None:
    """A number that is added and taken away again is all that float32 keeps."""
    nodes = [node("Add", ["a", "big"], ["s"], "add"), node("Sub", ["s", "big"], ["b"], "sub")]
    made = model(F64, lambda _: nodes, big=np.array(1e12))
    bench.save(made, x=normal(3, 16, 4, SIZE).astype(np.float64))
    found = bench.build('[variants]\nmethods = ["dynamic"]\nweights = ["QInt8"]\n')["dynamic-S8"]
    assert found.state == "failed"
    assert found.reason
    assert found.reason.startswith("the conversion to float32 changes what the model computes: output 'y' has an SQNR of ")
    assert 'skip_steps = ["convert-constants"]' in found.reason


def test_fp16_of_a_float16_model_says_so(bench: Bench) -> None:
    bench.save(CASES["plain"](F16), x=normal(3, 16, 4, SIZE).astype(np.float16))
    assert "the model is float16 already; nothing was converted" in bench.build(ALL)["fp16"].notes


def test_an_input_that_is_an_output_too(bench: Bench) -> None:
    made = model(F16, plain)
    made.graph.output.append(helper.make_tensor_value_info("x", F16, [4, SIZE]))
    made.graph.output.append(helper.make_tensor_value_info("w", F16, [SIZE, SIZE]))
    bench.save(made, x=normal(3, 16, 4, SIZE).astype(np.float16))
    variants = bench.build(ALL)
    assert {each.state for each in variants.values()} == {"made"}, {each.name: each.reason for each in variants.values()}
    found = bench.fidelity(variants)
    assert min(found[name] for name in variants if variants[name].recipe.method not in {"nbits", "fp16"}) > 20


def sparse(*, by_axis: bool, in_node: bool) -> ModelProto:
    values = numpy_helper.from_array(np.array([1.5, -2, 3, 0.7], np.float32), "ws")
    places = [[0, 1], [1, 4], [4, 0], [6, 3]] if by_axis else [1, 9, 20, 33]
    made = onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.array(places, np.int64), "wi"), dims=[8, 5])
    nodes = [node("MatMul", ["x", "ws"], ["m"], "first"), node("MatMul", ["m", "w"], ["y"], "last")]
    if in_node:
        nodes.insert(0, node("Constant", [], ["ws"], "sparse", sparse_value=made))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F32, [2, 8])],
        [helper.make_tensor_value_info("y", F32, [2, 4])],
        [numpy_helper.from_array(normal(0, 5, 4), "w")],
        sparse_initializer=[] if in_node else [made],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("in_node", [False, True])
@pytest.mark.parametrize("by_axis", [False, True])
def test_sparse_constants(bench: Bench, by_axis: bool, in_node: bool) -> None:
    bench.save(sparse(by_axis=by_axis, in_node=in_node), x=normal(3, 16, 2, 8))
    variants = bench.build(ALL)
    assert {each.state for each in variants.values()} == {"made"}, {each.name: each.reason for each in variants.values()}
    assert "convert-constants: sparse constants were made dense: 'ws'" in variants["dynamic-S8-pc"].notes
    found = bench.fidelity(variants)
    assert min(found[name] for name in variants if variants[name].recipe.method != "nbits") > 25, found


def test_skipped_the_tools_get_the_model_as_it_is(bench: Bench) -> None:
    bench.save(CASES["plain"](F16), x=normal(3, 16, 4, SIZE).astype(np.float16))
    text = '[variants]\nmethods = ["static"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
    found = bench.build(text + '[[variant]]\nname = "skipping"\nmethod = "static"\nskip_steps = ["convert-constants"]\n')
    assert any("converted to float32" in note for note in found["static-QDQ-U8S8"].notes)
    assert not any("converted to float32" in note for note in found["skipping"].notes)
