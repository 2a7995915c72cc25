"""fp16 of what both converters are known to break: Cast, Resize, Range, NonMaxSuppression, bodies of If."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node
from onnxruntime.transformers import float16 as own

from harness.quantize.build import build
from harness.quantize.methods import float16
from harness.quantize.methods.failing_node import Suspects, name_all
from harness.quantize.model.outer_scope import float_tensors, keep
from harness.study import study as studies
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.recipe import Variant

    Make = Callable[..., Variant]

ONE, ZERO, HALF = (np.array(value, np.float32) for value in (1, 0, 0.5))


def cast() -> ModelProto:
    """The sum of a shape, times x."""
    nodes = [
        make_node("Shape", ["x"], ["s"], "shape"),
        make_node("Cast", ["s"], ["sf"], "cast", to=TensorProto.FLOAT),
        make_node("ReduceMean", ["sf"], ["r"], "mean", keepdims=0),
        make_node("Mul", ["x", "r"], ["m"], "mul"),
        make_node("Mul", ["m", "half"], ["y"], "scale"),
    ]
    return make_model(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"half": HALF})


def resize() -> ModelProto:
    nodes = [
        make_node("Mul", ["x", "w"], ["m"], "mul"),
        make_node("Resize", ["m", "", "scales"], ["y"], "resize", mode="linear"),
    ]
    weights = {"w": np.ones(4, np.float32), "scales": np.array([1, 2], np.float32)}
    return make_model(nodes, {"x": [2, 4]}, {"y": [2, 8]}, weights)


def numbers() -> ModelProto:
    """A Range as long as x is large, summed, times x."""
    nodes = [
        make_node("ReduceMax", ["x"], ["top"], "max", keepdims=0),
        make_node("Range", ["zero", "top", "one"], ["r"], "range"),
        make_node("ReduceSum", ["r"], ["q"], "sum", keepdims=1),
        make_node("Mul", ["x", "q"], ["m"], "mul"),
        make_node("Mul", ["m", "half"], ["y"], "scale"),
    ]
    return make_model(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"zero": ZERO, "one": ONE, "half": HALF})


def boxes() -> ModelProto:
    nodes = [
        make_node("Reshape", ["x", "shape"], ["b"], "reshape"),
        make_node("NonMaxSuppression", ["b", "scores", "most"], ["found"], "nms"),
        make_node("Cast", ["found"], ["f"], "cast", to=TensorProto.FLOAT),
        make_node("Add", ["f", "one"], ["y"], "add"),
    ]
    weights = {"shape": np.array([1, 2, 4]), "scores": np.array([[[0.9, 0.8]]], np.float32), "most": np.array([2]), "one": ONE}
    return make_model(nodes, {"x": [2, 4]}, {"y": ["n", 3]}, weights)


def branches() -> ModelProto:
    """As numbers() if x is positive somewhere, else x: the body takes a tensor and a weight from outside."""
    outputs = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, None)] for name in ("t", "e")]
    body = [
        make_node("Range", ["zero", "top", "one"], ["r"]),
        make_node("ReduceSum", ["r"], ["q"], keepdims=1),
        make_node("Mul", ["x", "q"], ["t"], "inner"),
    ]
    then = helper.make_graph(body, "then", [], outputs[0])
    other = helper.make_graph([make_node("Identity", ["x"], ["e"])], "else", [], outputs[1])
    nodes = [
        make_node("ReduceMax", ["x"], ["top"], "max", keepdims=0),
        make_node("Greater", ["top", "zero"], ["c"], "greater"),
        make_node("If", ["c"], ["i"], "if", then_branch=then, else_branch=other),
        make_node("Mul", ["i", "one"], ["y"], "mul"),
    ]
    return make_model(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"zero": ZERO, "one": ONE})


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build_variant(model: ModelProto, more: str = "") -> Variant:
        onnx.save(model, tmp_path / "m.onnx")
        text = (
            f'name = "t"\n[model]\npath = "m.onnx"\n[variants]\nmethods = []\n[[variant]]\nmethod = "fp16"\nname = "half"\n{more}'
        )
        (tmp_path / "study.toml").write_text(text, encoding="utf-8")
        return build(studies.load(tmp_path), tmp_path / "out")[-1]

    return build_variant


def check(variant: Variant, model: ModelProto) -> ModelProto:
    """Both models compute nearly the same; returns the one in half precision."""
    assert variant.path is not None, variant.reason
    x = np.array([[1, 2, 3, 4], [4, 3, 2, 5]], np.float32)
    outputs = []
    for each in (model.SerializeToString(), variant.path.read_bytes()):
        session = onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"])
        halves = session.get_inputs()[0].type == "tensor(float16)"
        outputs.append(np.asarray(session.run(None, {"x": x.astype(np.float16) if halves else x})[0]))
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=0.01)
    return onnx.load(variant.path)


def refuse(*_: object) -> ModelProto:
    message = "no converter today"
    raise TypeError(message)


MODELS: dict[str, tuple[Callable[[], ModelProto], tuple[str, ...], tuple[str, ...]]] = {
    # What each converter has to leave in float32 beside its own list of operators.
    "Cast": (cast, (), ("cast",)),
    "Resize": (resize, (), ()),
    "Range": (numbers, (), ()),
    "NonMaxSuppression": (boxes, (), ("cast",)),
    "If": (branches, ("if",), ("if",)),
}


@pytest.mark.parametrize("converter", ["onnxruntime", "onnxconverter-common"])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_hard(name: str, converter: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, *left = MODELS[name]
    notes = [
        f"onnxruntime does not load it unless these stay in float32: {', '.join(found)}" if found else None for found in left
    ]
    expected = [notes[0]]
    if converter != "onnxruntime":
        monkeypatch.setattr(float16, "_by_onnxruntime", refuse)
        expected = [f"converted by {converter}, because by onnxruntime: TypeError: no converter today", notes[1]]
    variant = make(model())
    assert variant.notes == tuple(note for note in expected if note)
    check(variant, model())


@pytest.mark.parametrize(("model", "left"), [(numbers, "range"), (boxes, "nms"), (branches, "if")])
def test_operators_that_no_list_names(
    model: Callable[[], ModelProto], left: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the converter's list of operators is for, the repair finds by itself."""
    monkeypatch.setattr(own, "DEFAULT_OP_BLOCK_LIST", [])
    variant = make(model())
    assert variant.notes == (f"onnxruntime does not load it unless these stay in float32: {left}",)
    check(variant, model())


def test_the_repair_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float16, "REPAIRS", 0)
    monkeypatch.setattr(float16, "_by_common", refuse)
    variant = make(branches())
    assert variant.state == "failed"
    assert (variant.reason or "").endswith("; onnxconverter-common: TypeError: no converter today")
    calls: list[int] = []

    def blame(_: ModelProto, __: Any, left: list[str]) -> ModelProto:
        calls.append(len(left))
        message = "in node (mul)"
        raise ValueError(message)

    monkeypatch.setattr(float16, "REPAIRS", 24)
    monkeypatch.setattr(float16, "_by_onnxruntime", blame)
    variant = make(numbers())
    assert "onnxruntime, with 3 more in float32: ValueError: in node (mul)" in (variant.reason or "")
    assert calls == [0, 1, 2, 3]  # itself, then its neighbours, then nothing is left to blame


def test_what_is_asked_to_stay(make: Make) -> None:
    whole = check(make(numbers()), numbers())
    excluded = check(make(numbers(), 'exclude_nodes = ["su*"]\n'), numbers())
    types = check(make(numbers(), 'exclude_op_types = ["ReduceSum", "ReduceMax"]\n'), numbers())
    # Each node that stays has Casts around it, where its neighbours don't.
    casts = [sum(node.op_type == "Cast" for node in each.graph.node) for each in (whole, excluded, types)]
    assert casts[0] < casts[1]
    assert casts[0] < casts[2]
    assert make(numbers(), 'exclude_nodes = ["som"]\n').reason == (
        "exclude_nodes: 'som' matches no node of the model, nor of the prepared one; did you mean 'sum'?"
    )


def test_inputs_and_outputs(make: Make) -> None:
    kept = check(make(cast()), cast())
    turned = check(make(cast(), "keep_io_types = false\n"), cast())
    kinds = [[value.type.tensor_type.elem_type for value in (*each.graph.input, *each.graph.output)] for each in (kept, turned)]
    assert kinds == [[TensorProto.FLOAT] * 2, [TensorProto.FLOAT16] * 2]


class TestSuspects:
    def find(self, message: str, *known: str) -> str | None:
        model = branches()
        for node in model.graph.node:
            name_all(node)
        return Suspects(model).find(message, known)

    @pytest.mark.parametrize(
        ("message", "name"),
        [
            (
                "Type Error: Type (tensor(float16)) of output arg (top) of node (max) does not match expected type (tensor(float)).",
                "max",
            ),
            ("Could not find an implementation for ReduceMax(18) node with name 'max'", "max"),
            (
                "Node (if) Op (If) [TypeInferenceError] … input parameter (zero) of operator (Range) in node (if.Range_1) is invalid.",
                "if",
            ),
            ("Node input 'r_cast_to_fp16' is not a graph input, initializer, or output of a previous node.", "if"),
            ("Type (tensor(float)) of output arg (c) of node (mul_input_cast0)", "mul"),
            ("out of memory", None),
        ],
    )
    def test_the_innermost_name_counts(self, message: str, name: str | None) -> None:
        assert self.find(message) == name

    def test_neighbours_come_next(self) -> None:
        assert self.find("in node (greater)", "greater") in {"max", "if"}
        assert self.find("in node (greater)", "greater", "max") == "if"
        assert self.find("in node (greater)", "greater", "max", "if") is None


def test_captured_tensors() -> None:
    model = branches()
    keep(model, {"if"}, float_tensors(model))
    casts = [(list(node.input), list(node.output)) for node in model.graph.node if node.op_type == "Cast"]
    assert sorted(casts) == [([name], [f"{name}_in_if"]) for name in ("one", "top", "x", "zero")]
    onnx.checker.check_model(model)
    before = branches()
    keep(before, set(), float_tensors(before))
    assert before == branches()


def test_a_spectrum_of_one_side(tmp_path: Path) -> None:
    """onnx infers 16 frequencies where there are 9, and onnxruntime refuses a file that says so."""
    nodes = [
        make_node("STFT", ["x", "step", "window", "size"], ["s"], "stft"),
        make_node("ReduceSum", ["s", "axis"], ["p"], "power", keepdims=0),
        make_node("MatMul", ["p", "w"], ["y"], "mel"),
    ]
    stored = {"step": np.array(8), "size": np.array(16), "window": np.hanning(16).astype(np.float32), "axis": np.array([3])}
    stored["w"] = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    onnx.save(make_model(nodes, {"x": [1, 64]}, {"y": ["b", "t", 4]}, stored, opset=17), tmp_path / "m.onnx")
    study = studies.for_model(tmp_path / "m.onnx")
    variants = build(
        study.model_copy(update={"variants": study.variants.model_copy(update={"methods": ["fp16"]})}), tmp_path / "out"
    )
    assert [(each.name, each.state, each.reason) for each in variants] == [("fp32", "made", None), ("fp16", "made", None)]
