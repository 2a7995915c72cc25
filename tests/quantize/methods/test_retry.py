"""Nodes that onnxruntime's tools stop at are left in float; each case here is a real failure of theirs, not a made-up one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.quantize.context import BuildContext
from harness.quantize.data import load
from harness.quantize.methods import retry
from harness.quantize.model.model import open_model
from harness.quantize.reasons import RecipeError, reason_of
from harness.quantize.recipe import Recipe
from tests.models import make_model
from tests.quantize.conftest import patch_make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import ModelProto

RNG = np.random.default_rng(5)
STATIC = Recipe(name="v", method="static", format="QDQ", activation="QUInt8", weight="QInt8")


def _normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return (RNG.normal(size=shape) / 3).astype(np.float32)


def computed_bias() -> ModelProto:
    """A Conv whose bias is computed: QOperator looks for an initializer."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "first"),
        helper.make_node("ReduceMean", ["a"], ["m"], "mean", axes=[0, 2, 3], keepdims=0),
        helper.make_node("Conv", ["a", "w1", "m"], ["y"], "second"),
    ]
    weights = {"w0": _normal(6, 3, 3, 3), "w1": _normal(6, 6, 1, 1)}
    return make_model(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 6, 6, 6]}, weights)


def taken_by_a_body() -> ModelProto:
    """A tensor that an If takes from outside: QOperator gives the body none in float, and does not say which node is at fault."""

    def body(kind: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"y{kind}", TensorProto.FLOAT, [1, 4, 8, 8])
        return helper.make_graph([helper.make_node(kind, ["r"], [f"y{kind}"], kind)], kind, [], [out])

    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("If", ["k"], ["z"], "choice", then_branch=body("Neg"), else_branch=body("Abs")),
        helper.make_node("Conv", ["r", "w1"], ["y"], "second", pads=[1] * 4),
    ]
    shape = [1, 4, 8, 8]
    model = make_model(nodes, {"x": shape}, {"y": shape, "z": shape}, {"w0": _normal(4, 4, 3, 3), "w1": _normal(4, 4, 3, 3)})
    model.graph.input.append(helper.make_tensor_value_info("k", TensorProto.BOOL, []))
    return model


def _context(model: ModelProto, folder: Path) -> BuildContext:
    onnx.save(model, folder / "m.onnx")
    source = open_model(folder / "m.onnx")
    return BuildContext(source, {None: load.load("random", source, {}, what="calibration")}, folder)


def _made(recipe: Recipe, model: ModelProto, folder: Path) -> tuple[ModelProto, tuple[str, ...]]:
    notes = retry.make(recipe, _context(model, folder), folder / "v.onnx")
    return onnx.load(folder / "v.onnx"), notes


def test_the_node_at_work_stays_in_float(tmp_path: Path) -> None:
    skipped = {"format": "QOperator", "skip_steps": ("float-computed-operands",)}
    made, notes = _made(STATIC.model_copy(update=skipped), computed_bias(), tmp_path)
    kinds = {node.name.removesuffix("_quant"): node.op_type for node in made.graph.node}
    assert (kinds["first"], kinds["second"]) == ("QLinearConv", "Conv")
    (note,) = [note for note in notes if "stays in float, because quantize_static fails" in note]
    assert note.startswith("'second' (Conv) stays in float, because quantize_static fails with it (")
    assert "NoneType" in note


def test_a_node_that_is_only_hinted_at(tmp_path: Path) -> None:
    """What was left out in vain before the right node was found is quantized all the same."""
    made, notes = _made(
        STATIC.model_copy(update={"format": "QOperator", "skip_steps": ("float-takers",)}), taken_by_a_body(), tmp_path
    )
    (note,) = [note for note in notes if "stays in float, because quantize_static fails" in note]
    assert "unknown initializers/tensors" in note
    integer = [node for node in made.graph.node if node.op_type == "QLinearConv"]
    assert integer
    assert note.count("Conv") <= 1


def test_where_nothing_fails_nothing_is_left(tmp_path: Path) -> None:
    made, notes = _made(STATIC, computed_bias(), tmp_path)
    assert not any("in float, because" in note for note in notes)
    assert sum(node.op_type == "QuantizeLinear" for node in made.graph.node) > 2


def _failing(*, at: set[str] | None, message: str = "nothing fits") -> Callable[..., tuple[str, ...]]:
    """A method that fails while these nodes are quantized; None always does."""

    def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
        left = set(context.excluded(recipe))
        for node in context.prepared.proto.graph.node:
            if at is None or node.name in at - left:
                # From inside of a tool, as the harness's own mistakes must not be hidden.
                code = compile("raise ValueError(message)", "/x/site-packages/onnxruntime/quantization/tool.py", "exec")
                exec(code, {"message": message, "node": node})
        onnx.save(context.prepared.proto, path)
        return ()

    return make


def test_several_nodes_are_left_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_make(monkeypatch, "static", _failing(at={"first", "second"}))
    _, notes = _made(STATIC, computed_bias(), tmp_path)
    assert "'first', 'second' (Conv) stay in float, because quantize_static fails with them (ValueError: nothing fits)" in notes


def test_many_nodes_of_one_form_are_left_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool fails three times, and not once for each of 40."""
    names = [f"conv{number}" for number in range(40)]
    nodes = [
        helper.make_node("Conv", [f"t{number}" if number else "x", "w"], [f"t{number + 1}"], name, pads=[1] * 4)
        for number, name in enumerate(names)
    ]
    nodes.append(helper.make_node("Conv", ["t40", "w"], ["y"], "other"))
    model = make_model(nodes, {"x": [1, 3, 6, 6]}, {"y": [1, 3, 4, 4]}, {"w": _normal(3, 3, 3, 3) / 3})
    calls: list[int] = []
    failing = _failing(at=set(names))

    def counted(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
        calls.append(1)
        return failing(recipe, context, path)

    patch_make(monkeypatch, "static", counted)
    _, notes = _made(STATIC, model, tmp_path)
    assert (
        "'conv0', 'conv1', 'conv2' and 37 more (Conv) stay in float, because quantize_static fails with them (ValueError: nothing fits)"
        in notes
    )
    assert len(calls) == 4


def test_a_float_model_that_is_refused_too_blames_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def copied(_: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
        calls.append(1)
        onnx.save(context.prepared.proto, path)
        return ()

    patch_make(monkeypatch, "dynamic", copied)
    nodes = [
        helper.make_node("Mystery", ["x"], ["m"], "odd", domain="org.example"),
        helper.make_node("Relu", ["m"], ["y"], "relu"),
    ]
    model = make_model(nodes, {"x": [1, 4]}, {"y": [1, 4]})
    model.opset_import.append(helper.make_opsetid("org.example", 1))
    _, notes = _made(Recipe(name="v", method="dynamic", weight="QInt8"), model, tmp_path)
    assert calls == [1]
    assert any("on this machine does not load it" in note for note in notes)


def test_what_no_exclusion_mends_names_node_and_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_make(monkeypatch, "static", _failing(at=None))
    with pytest.raises(RecipeError) as caught:
        _made(STATIC, computed_bias(), tmp_path)
    assert str(caught.value) == (
        "onnxruntime's quantize_static fails at node 'first' (Conv), and also when that node is left out; leave more nodes in float with "
        "exclude_nodes, or use QOperator or dynamic (ValueError: nothing fits)"
    )


def test_a_failure_that_is_no_tools_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> tuple[str, ...]:
        message = "a mistake of our own"
        raise KeyError(message)

    patch_make(monkeypatch, "static", broken)
    with pytest.raises(KeyError, match="a mistake of our own"):
        _made(STATIC, computed_bias(), tmp_path)


def test_what_onnxruntime_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node that its message names is left in float; where that does not help, the file stays as the tool made it."""

    def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
        model = onnx.ModelProto.FromString(context.prepared.proto.SerializeToString())
        for node in model.graph.node:
            if node.op_type == "Conv" and node.name not in context.excluded(recipe):
                node.name += "_quant"
                node.op_type = "ConvInteger"
        onnx.save(model, path)
        return ()

    patch_make(monkeypatch, "static", make)
    made, notes = _made(STATIC, computed_bias(), tmp_path)
    assert {node.op_type for node in made.graph.node} == {"Conv", "ReduceMean"}
    told = [note for note in notes if "stays in float, because quantize_static fails with it (" in note]
    assert {note.split("'")[1] for note in told} == {"first", "second"}
    assert all("is not valid" in note or "is invalid" in note for note in told)


def test_a_reason_names_tool_and_node() -> None:
    with pytest.raises(ValueError, match="nothing") as caught:
        exec(
            compile("raise ValueError('nothing')", "/x/site-packages/onnxruntime/quantization/tool.py", "exec"),
            {"node": helper.make_node("Relu", ["x"], ["y"], "relu")},
        )
    assert reason_of(caught.value) == "onnxruntime/quantization/tool.py fails at node 'relu' (Relu) (ValueError: nothing)"
