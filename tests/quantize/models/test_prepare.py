"""The ladder of preparation: each rung with a real model that stands on it and no higher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from harness import study as studies
from harness.quantize.build import build
from harness.quantize.models import storage
from harness.quantize.models.graph import tensors
from harness.quantize.models.model import open_model
from harness.quantize.models.prepare import LADDER, RAW, prepare
from harness.quantize.recipe import Preparation
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


def old_upsample() -> ModelProto:
    """Upsample of opset 9: the tool's own way to a newer opset fails."""
    node = helper.make_node("Upsample", ["x", "s"], ["y"], "up", mode="nearest")
    scales = np.array([1, 1, 2, 2], dtype=np.float32)
    return make_model([node], {"x": [1, 1, 2, 2]}, {"y": [1, 1, 4, 4]}, {"s": scales}, opset=9)


MODELS: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "default": (fixed, ""),
    "auto_merge": (conflicting_dimensions, "default: Exception: Incomplete symbolic shape inference"),
    "guess_output_rank": (unknown_shape, "auto_merge: Exception: Incomplete symbolic shape inference"),
    "skip_symbolic_shape": (crashing_inference, "guess_output_rank: TypeError: object of type 'NoneType' has no len()"),
    "skip_optimization": (custom_operator, "guess_output_rank: onnxruntime's optimizer failed: Fail: "),
    RAW: (old_upsample, "skip_optimization: RuntimeError: "),
}


@pytest.mark.parametrize("rung", [*dict(LADDER), RAW])
def test_a_model_on_each_rung(tmp_path: Path, rung: str) -> None:
    make, reason = MODELS[rung]
    onnx.save(make(), tmp_path / "m.onnx")
    found = prepare(open_model(tmp_path / "m.onnx"), tmp_path)
    assert found.preparation.rung == rung
    tried = [failure.split(":")[0] for failure in found.preparation.failures]
    rungs = [name for name, _ in LADDER]
    assert tried == rungs[: rungs.index(rung) if rung in rungs else len(rungs)]
    assert any(failure.startswith(reason) for failure in found.preparation.failures) or not reason
    assert not any(str(tmp_path) in failure for failure in found.preparation.failures)
    onnx.checker.check_model(onnx.load(found.path))
    assert {path.name for path in tmp_path.iterdir()} - {"home", "work"} == {"m.onnx", "prepared.onnx"}


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
        reason = "default: Exception: Incomplete symbolic shape inference"
        assert found["static-QDQ-U8S8"].preparation == Preparation(rung="auto_merge", failures=(reason,))
        assert found["fp32"].preparation is None
        assert "the model was prepared with auto_merge only" in found["static-QDQ-U8S8"].notes[-1]


def test_a_large_models_tensors_stay_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_cnn(tmp_path / "m.onnx")
    small = prepare(open_model(path), tmp_path)
    whole = small.proto
    for limit in ("LARGE", "LEAST_TENSOR"):
        monkeypatch.setattr(storage, limit, 64)
    monkeypatch.setattr("harness.quantize.models.prepare.LEAST_TENSOR", 64)
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
