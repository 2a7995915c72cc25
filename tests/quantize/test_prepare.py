"""The ladder of preparation: each rung with a real model that stands on it and no higher."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from harness.quantize.build import build
from harness.quantize.model import storage
from harness.quantize.model.graph import tensors
from harness.quantize.model.model import open_model
from harness.quantize.prepare import LADDER, RAW, prepare
from harness.quantize.recipe import Preparation
from harness.quantize.verify.original import Original
from harness.study import study as studies
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYMBOLIC = "onnxruntime/tools/symbolic_shape_infer.py fails"
RELU = helper.make_node("Relu", ["m"], ["y"], "relu")


def fixed() -> ModelProto:
    return make_model([helper.make_node("Neg", ["x"], ["m"]), RELU], {"x": [1, 4]}, {"y": [1, 4]})


def conflicting_dimensions() -> ModelProto:
    """Two inputs whose first dimensions are of two names, and must be equal."""
    return make_model(
        [helper.make_node("Concat", ["a", "b"], ["m"], axis=1), RELU], {"a": ["n", 4], "b": ["m", 4]}, {"y": ["n", 8]}
    )


def unknown_shape() -> ModelProto:
    """An operator that onnxruntime runs, and its shape inference does not know."""
    node = helper.make_node("Inverse", ["x"], ["m"], "inverse", domain="com.microsoft")
    model = make_model([node, RELU], {"x": ["b", 4, 4]}, {"y": ["b", 4, 4]})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def crashing_inference() -> ModelProto:
    """Axes that are an input: symbolic shape inference raises a TypeError."""
    nodes = [helper.make_node("Cast", ["p"], ["q"], to=7), helper.make_node("Unsqueeze", ["x", "q"], ["y"])]
    return make_model(nodes, {"x": ["b", 4], "p": [1]}, {"y": ["c", "d", "e"]})


def custom_operator() -> ModelProto:
    """An operator of somebody's own domain: onnxruntime's optimizer can't load it."""
    model = make_model([helper.make_node("Mystery", ["x"], ["m"], domain="org.example"), RELU], {"x": ["n", 4]}, {"y": ["n", 4]})
    model.opset_import.append(helper.make_opsetid("org.example", 1))
    return model


def unknown_to_the_converter() -> ModelProto:
    """Batch statistics at inference, of opset 6: nothing takes them to a newer opset, and the tool begins with that."""
    node = helper.make_node("BatchNormalization", ["x", "a", "a", "a", "a"], ["y"], "norm", is_test=0)
    return make_model([node], {"x": [1, 2, 4, 4]}, {"y": [1, 2, 4, 4]}, {"a": np.ones(2, np.float32)}, opset=6)


MODELS: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "default": (fixed, ""),
    "auto_merge": (conflicting_dimensions, f"default: {SYMBOLIC} (Exception: Incomplete symbolic shape inference)"),
    "guess_output_rank": (unknown_shape, f"auto_merge: {SYMBOLIC} (Exception: Incomplete symbolic shape inference)"),
    "skip_symbolic_shape": (
        crashing_inference,
        f"guess_output_rank: {SYMBOLIC} at node 'Unsqueeze_1' (Unsqueeze) (TypeError: object of type 'NoneType' has no len())",
    ),
    "skip_optimization": (custom_operator, "guess_output_rank: onnxruntime's optimizer failed: Fail: "),
    RAW: (unknown_to_the_converter, "skip_optimization: onnx/version_converter.py fails (RuntimeError: "),
}


@pytest.mark.parametrize("rung", [*dict(LADDER), RAW])
def test_a_model_on_each_rung(tmp_path: Path, rung: str) -> None:
    make, reason = MODELS[rung]
    onnx.save(make(), tmp_path / "m.onnx")
    found = prepare(open_model(tmp_path / "m.onnx"), tmp_path)
    assert found.preparation.rung == rung
    tried = [failure.split(":")[0] for failure in found.preparation.failures]
    rungs = [name for name, _ in LADDER]
    raised = ["opset 11"] if rung == RAW else []
    assert tried == [*raised, *rungs[: rungs.index(rung) if rung in rungs else len(rungs)]]
    assert any(failure.startswith(reason) for failure in found.preparation.failures) or not reason
    assert not any(str(tmp_path) in failure for failure in found.preparation.failures)
    onnx.checker.check_model(onnx.load(found.path))
    assert {path.name for path in tmp_path.iterdir()} - {"home", "work"} == {"m.onnx", "prepared.onnx"}


def old_resize(mode: str = "linear", kind: str = "Resize", opset: int = 10) -> ModelProto:
    """A Resize as it was before it had a transformation mode: asymmetric, and of nearest the lower place."""
    conv = helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4)
    weights = {
        "w": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32),
        "s": np.array([1, 1, 1.5, 2.5], np.float32),
    }
    resize = helper.make_node(kind, ["c", "s"], ["u"], "up", mode=mode)
    return make_model(
        [conv, resize, helper.make_node("Relu", ["u"], ["y"], "relu")],
        {"x": [1, 3, 6, 6]},
        {"y": [1, 4, 9, 15]},
        weights,
        opset=opset,
    )


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(("kind", "opset"), [("Resize", 10), ("Upsample", 9)])
def test_a_prepared_resize_computes_what_it_did(tmp_path: Path, kind: str, opset: int, mode: str) -> None:
    onnx.save(old_resize(mode, kind, opset), tmp_path / "m.onnx")
    source = open_model(tmp_path / "m.onnx")
    original = Original(source)
    found = prepare(source, tmp_path, original)
    assert found.preparation == Preparation(rung="default")
    assert original.difference(found.path) is None


def test_a_rung_that_changes_the_model_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool's own way to opset 11, which makes a Resize half_pixel, and an optimizer that does harm."""
    monkeypatch.setattr("harness.quantize.prepare.LEAST_OPSET", 7)
    onnx.save(old_resize(), tmp_path / "m.onnx")
    source = open_model(tmp_path / "m.onnx")
    found = prepare(source, tmp_path, Original(source))
    assert found.rung == RAW
    assert re.fullmatch(
        r"default: computes something else: output 'y' has an SQNR of \d+\.\d dB against the original; "
        r"the first tensor that differs is 'u' of node 'up' \(Resize\)",
        found.preparation.failures[0],
    )
    assert (
        "quantized from an unprepared model, because the preparation failed: default: computes something else" in found.notes[0]
    )
    assert Original(source).difference(found.path) is None


def test_a_rung_whose_model_does_not_run_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(start: Path, output: Path, **options: object) -> None:
        model = onnx.load(start)
        if "skip_optimization" not in options:
            model.graph.node[0].op_type = "Det"
        onnx.save(model, output)

    monkeypatch.setattr("harness.quantize.prepare.quant_pre_process", broken)
    onnx.save(fixed(), tmp_path / "m.onnx")
    source = open_model(tmp_path / "m.onnx")
    found = prepare(source, tmp_path, Original(source))
    assert found.rung == "skip_optimization"
    assert found.preparation.failures[0].startswith("default: gives a model that onnxruntime can't run: ")


def test_what_can_not_be_verified_is_said(tmp_path: Path) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])]
    onnx.save(make_model(nodes, {"x": [1, 4]}, {"y": [1, 4]}), tmp_path / "m.onnx")
    source = open_model(tmp_path / "m.onnx")
    found = prepare(source, tmp_path, Original(source))
    said = "not verified: the model gives other outputs each time that it runs"
    assert found.preparation == Preparation(rung="default", unverified=said)
    assert found.notes == (f"preparation {said}",)


def test_shapes_are_inferred_where_only_the_optimizer_fails(tmp_path: Path) -> None:
    onnx.save(custom_operator(), tmp_path / "m.onnx")
    found = prepare(open_model(tmp_path / "m.onnx"), tmp_path)
    (value,) = [value for value in found.proto.graph.value_info if value.name == "m"]
    assert len(value.type.tensor_type.shape.dim) == 2


def test_the_rung_is_recorded_with_each_variant(tmp_path: Path) -> None:
    onnx.save(conflicting_dimensions(), tmp_path / "m.onnx")
    study = studies.for_model(tmp_path / "m.onnx", dims={"n": [1], "m": [1]}, calibration="random")
    kept = tmp_path / "cache"
    for _ in range(2):  # the second time from the cache
        found = {variant.name: variant for variant in build(study, tmp_path / "out", cache=kept)}
        reason = f"default: {SYMBOLIC} (Exception: Incomplete symbolic shape inference)"
        assert found["static-QDQ-U8S8"].preparation == Preparation(rung="auto_merge", failures=(reason,))
        assert found["fp32"].preparation is None
        assert "quantized from a partly prepared model (auto_merge; usually harmless)" in found["static-QDQ-U8S8"].notes[-1]


def test_a_large_models_tensors_stay_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_cnn(tmp_path / "m.onnx")
    small = prepare(open_model(path), tmp_path)
    whole = small.proto
    for limit in ("LARGE", "LEAST_TENSOR"):
        monkeypatch.setattr(storage, limit, 64)
    monkeypatch.setattr("harness.quantize.prepare.LEAST_TENSOR", 64)
    source = tmp_path / "outside" / "m.onnx"
    source.parent.mkdir()
    onnx.save(onnx.load(path), source, save_as_external_data=True, location="t.bin", size_threshold=64)
    found = prepare(open_model(source), tmp_path)
    assert (found.is_large, small.is_large) == (True, False)
    assert found.preparation.rung == "default"
    assert [node.name for node in found.proto.graph.node] == [node.name for node in whole.graph.node]
    assert sum(len(tensor.raw_data) for tensor in tensors(found.proto)) < 200
    weights = [
        {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in proto.graph.initializer}
        for proto in (onnx.load(found.path), whole)
    ]
    assert weights[0] == weights[1]
