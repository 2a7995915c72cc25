from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from harness.quantize import opset
from harness.quantize.build import build
from harness.quantize.context import BuildContext
from harness.quantize.model.external_data import locations
from harness.quantize.model.graph import opset_of
from harness.quantize.model.model import open_model
from harness.quantize.raising import Raising
from harness.quantize.reasons import RecipeError
from harness.quantize.recipe import Recipe
from harness.quantize.rewriting import Rewritten
from harness.quantize.step import Changes
from harness.quantize.verify.original import Original
from harness.study import study as studies
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from pathlib import Path

STATIC = Recipe(name="v", method="static", format="QDQ", activation="QUInt8", weight="QInt8")


@pytest.mark.parametrize(
    ("changes", "own", "wanted"),
    [
        ({}, 11, 11),
        ({}, 9, 11),
        ({}, 10, 10),  # as the tool does
        ({"per_channel": True}, 11, 13),
        ({"per_channel": True, "format": "QOperator"}, 11, 11),
        ({"activation": "QUInt16"}, 17, 21),
        ({"extra_options": '{"TensorQuantOverrides": {"x": [{"quant_type": "QUInt16"}]}}'}, 17, 21),
        ({"extra_options": '{"BlockSize": 16}'}, 17, 21),
        ({"method": "dynamic", "format": None, "activation": None}, 9, 11),
        ({"method": "nbits", "weight": None, "bits": 4}, 17, 21),
        ({"method": "fp16"}, 9, 9),
    ],
)
def test_where_tools_bring_a_model(changes: dict[str, object], own: int, wanted: int) -> None:
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, {"y": [1]}, opset=own)
    assert opset.target(STATIC.model_copy(update=changes), model) == wanted


def test_a_model_is_raised_once(tmp_path: Path) -> None:
    tiny_cnn(tmp_path / "m.onnx", opset=11)
    context = BuildContext(open_model(tmp_path / "m.onnx"), {}, tmp_path)
    wide = STATIC.model_copy(update={"activation": "QUInt16"})
    found = [context.raised(each) for each in (STATIC, wide, wide.model_copy(update={"name": "w", "weight": "QUInt8"}))]
    assert [opset_of(each.proto) for each in found] == [11, 21, 21]
    assert found[0].path == context.prepared.path
    assert found[1].path == found[2].path
    assert onnx.load(found[1].path) == found[1].proto


def test_what_changes_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the converter would without the table: the fault is found by running the model, and not by knowing of it."""
    monkeypatch.setattr("harness.quantize.model.opset_fixes.FIXES", ())
    node = helper.make_node("Hardmax", ["x"], ["y"], "hard", axis=1)
    onnx.save(make_model([node], {"x": [2, 3, 4]}, {"y": [2, 3, 4]}, opset=12), tmp_path / "m.onnx")
    context = BuildContext(open_model(tmp_path / "m.onnx"), {}, tmp_path)
    for _ in range(2):
        with pytest.raises(RecipeError) as caught:
            context.raised(STATIC.model_copy(update={"per_channel": True}))
        assert str(caught.value).startswith("after opset 12 was raised to 13, the model computes something else: output 'y' ")
        assert str(caught.value).endswith(
            "; the first tensor that differs is 'y' of node 'hard' (Hardmax); export the model with opset 13 or newer, or use "
            "QOperator or per-tensor weights, which need no newer opset"
        )


def test_steps_that_change_the_model_are_refused(tmp_path: Path) -> None:
    """A step that rounds constants otherwise is not; one that breaks the model is, and the way out is told."""
    tiny_cnn(tmp_path / "m.onnx", batch=1)
    original = Original(open_model(tmp_path / "m.onnx"))
    for factor, fault in ((1.001, ""), (1.5, "after the preparation steps, the model computes something else: output 'y' ")):
        proto = onnx.load(tmp_path / "m.onnx")
        weights = next(tensor for tensor in proto.graph.initializer if tensor.name == "w1")
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(factor), "w1"))
        path = tmp_path / f"{factor}.onnx"
        onnx.save(proto, path)
        start = Rewritten(path, proto, is_large=False, changes=Changes(notes=("some-step: 'w1'",)))
        if fault:
            with pytest.raises(RecipeError) as caught:
                Raising(tmp_path).of(start, STATIC, original)
            assert str(caught.value).startswith(fault)
            assert str(caught.value).endswith("; switch steps off with skip_steps (some-step: 'w1')")
        else:
            assert Raising(tmp_path).of(start, STATIC, original) is start


def test_a_large_model_is_raised_without_its_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tiny_cnn(tmp_path / "small.onnx", batch=1, opset=11)
    for place in ("harness.quantize.model.storage.LARGE", "harness.quantize.model.storage.LEAST_TENSOR"):
        monkeypatch.setattr(place, 64)
    monkeypatch.setattr("harness.quantize.prepare.LEAST_TENSOR", 64)
    (tmp_path / "large").mkdir()
    onnx.save(onnx.load(small), tmp_path / "large" / "m.onnx", save_as_external_data=True, location="t.bin", size_threshold=64)
    (tmp_path / "work").mkdir(exist_ok=True)
    context = BuildContext(open_model(tmp_path / "large" / "m.onnx"), {}, tmp_path / "work")
    found = context.raised(STATIC.model_copy(update={"per_channel": True}))
    assert (opset_of(found.proto), found.is_large, context.prepared.preparation.unverified) == (13, True, None)
    assert locations(found.proto)
    assert context.original
    assert context.original.difference(found.path) is None


def test_a_variant_of_each_sort_from_an_old_model(tmp_path: Path) -> None:
    """Opset 10 with a linear Resize, which the tools themselves would make another model of."""
    weights = {
        "w": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32),
        "s": np.array([1, 1, 1.5, 2], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("Resize", ["c", "s"], ["u"], "up", mode="linear"),
        helper.make_node("MatMul", ["u", "m"], ["y"], "matmul"),
    ]
    weights["m"] = np.random.default_rng(2).normal(size=(16, 32)).astype(np.float32)
    onnx.save(make_model(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 4, 12, 32]}, weights, opset=10), tmp_path / "m.onnx")
    (tmp_path / "s.toml").write_text(
        'name = "s"\n[model]\npath = "m.onnx"\ncalibration = "random"\n[variants]\nmethods = ["prepared", "dynamic", "static", "nbits"]\n'
        'activations = ["QUInt8", "QUInt16"]\nweights = ["QInt8"]\nper_channel = [false, true]\nformats = ["QDQ"]\n',
        encoding="utf-8",
    )
    made = {variant.name: variant for variant in build(studies.load(tmp_path / "s.toml"), tmp_path / "out")}
    opsets = {name: opset_of(onnx.load(variant.path)) for name, variant in made.items() if variant.path}
    assert all(variant.state == "made" for variant in made.values()), {name: variant.reason for name, variant in made.items()}
    assert {opsets["prepared"], opsets["static-QDQ-U8S8"]} == {11}
    assert opsets["static-QDQ-U8S8-pc"] == 13
    assert {opsets["static-QDQ-U16S8"], opsets["nbits-4b32"]} == {21}
    for path in (tmp_path / "out").glob("*.onnx"):
        model = onnx.load(path)
        if path.stem != "fp32":
            assert {_mode(model, node) for node in model.graph.node if node.op_type == "Resize"} == {"asymmetric"}, path.stem


def _mode(model: ModelProto, node: onnx.NodeProto) -> str:
    assert opset_of(model) != 10
    return next(str(each.s, "utf-8") for each in node.attribute if each.name == "coordinate_transformation_mode")
