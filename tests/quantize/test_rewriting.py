from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.errors import StudyError
from harness.quantize import rewriting
from harness.quantize.build import build
from harness.quantize.matrix import plan
from harness.quantize.model.model import open_model
from harness.quantize.prepare import prepare
from harness.quantize.recipe import Recipe
from harness.quantize.step import Changes, Decision, Step
from harness.quantize.steps.registry import STEPS
from harness.quantize.worker_pool import WorkerPool
from harness.study import study as studies
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.study.study import Study

SHARED = "copy-transposed-weights: stored transposed as well, because a Gemm transposes them and other nodes take them too: 'w'"


def shared_weights(path: Path) -> None:
    """Two Gemms that take one square weight, one of them transposed."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((8, 8)).astype(np.float32), "b": rng.standard_normal(8).astype(np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "first", transB=1),
        helper.make_node("Tanh", ["h"], ["t"], "tanh"),
        helper.make_node("Gemm", ["t", "w", "b"], ["y"], "second"),
    ]
    onnx.save(make_model(nodes, {"x": [1, 8]}, {"y": [1, 8]}, weights), path)


def test_where_no_step_finds_anything_it_is_the_prepared_model_itself(tmp_path: Path) -> None:
    prepared = prepare(open_model(tiny_cnn(tmp_path / "m.onnx")), tmp_path)
    for method in ("dynamic", "static", "nbits"):
        found = rewriting.Rewriting(tmp_path).of(prepared, Recipe(name="r", method=method, format="QDQ"))
        assert found.path == prepared.path
        assert found.proto is prepared.proto
        assert found.changes == Changes()


def test_recipes_for_which_steps_do_the_same_share_the_model(tmp_path: Path) -> None:
    shared_weights(tmp_path / "m.onnx")
    prepared = prepare(open_model(tmp_path / "m.onnx"), tmp_path)
    models = rewriting.Rewriting(tmp_path)
    found = models.of(prepared, Recipe(name="a", method="dynamic", weight="QInt8"))
    assert found.path != prepared.path
    assert found.path == models.of(prepared, Recipe(name="b", method="dynamic", weight="QUInt8")).path
    skipping = Recipe(name="c", method="dynamic", skip_steps=tuple(step.key for step in STEPS))
    assert models.of(prepared, skipping).path == prepared.path


def test_a_step_leaves_a_note_and_can_be_skipped(tmp_path: Path) -> None:
    shared_weights(tmp_path / "m.onnx")
    text = (
        'name = "t"\n[model]\npath = "m.onnx"\n[variants]\nmethods = ["dynamic"]\nweights = ["QInt8"]\n'
        '[[variant]]\nmethod = "dynamic"\nskip_steps = ["copy-transposed-weights"]\n'
    )
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    found = {each.name: each for each in build(studies.load(tmp_path / "study.toml"), tmp_path / "out")}
    assert SHARED in found["dynamic-S8"].notes
    assert SHARED not in found["dynamic-S8-skip-copy-transposed-weights"].notes
    assert found["dynamic-S8"].sha256 != found["dynamic-S8-skip-copy-transposed-weights"].sha256


def test_a_child_makes_the_same(tmp_path: Path) -> None:
    shared_weights(tmp_path / "m.onnx")
    study = studies.for_model(tmp_path / "m.onnx")
    here = {each.name: each for each in build(study, tmp_path / "here")}
    children = WorkerPool(1)
    try:
        there = {each.name: each for each in build(study, tmp_path / "there", executor=children)}
    finally:
        children.shutdown()
    assert {name: each.sha256 for name, each in here.items()} == {name: each.sha256 for name, each in there.items()}
    assert {name: each.notes for name, each in here.items()} == {name: each.notes for name, each in there.items()}


def test_all_recipes_of_a_study_skip_a_step(write_study: Callable[[str], Study]) -> None:
    study = write_study('[variants]\nmethods = ["fp16", "dynamic", "prepared"]\nskip_steps = ["copy-transposed-weights"]\n')
    skipped = {recipe.method: recipe.skip_steps for recipe in plan(study)}
    assert skipped == {
        "fp32": (),
        "prepared": (),
        "fp16": ("copy-transposed-weights",),
        "dynamic": ("copy-transposed-weights",),
    }


@pytest.mark.parametrize("table", ["[variants]\n", '[[variant]]\nmethod = "dynamic"\n'])
def test_an_unknown_step_is_refused_with_the_nearest(write_study: Callable[[str], Study], table: str) -> None:
    with pytest.raises(StudyError, match="copy-transposed-weights"):
        write_study(f'{table}skip_steps = ["copy-transposed-weight"]\n')


def test_a_decision_is_taken_by_the_calibrated_ranges(
    cnn: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Mapping[str, tuple[float, float]] | None] = {}

    def decide(model: onnx.ModelProto, recipe: Recipe, ranges: Mapping[str, tuple[float, float]] | None) -> Decision:
        seen[recipe.name] = ranges
        return Decision(float_nodes=(model.graph.node[0].name,), notes=("the first node stays in float",))

    step = Step("keep-first", "", "", "", frozenset({"static", "dynamic"}), decide=decide)
    monkeypatch.setattr(rewriting, "STEPS", (step,))
    study = studies.for_model(cnn, dims={"batch": [1]}, calibration=str(calibration))
    recipes = [recipe for recipe in plan(study) if recipe.name in {"static-QDQ-U8S8", "dynamic-S8"}]
    for variant in build(study, tmp_path / "out", recipes=recipes):
        assert "the first node stays in float" in variant.notes
        assert variant.path
        first = onnx.load(variant.path)
        assert "conv1" in {node.name for node in first.graph.node if node.op_type == "Conv"}
    assert seen["dynamic-S8"] is None
    ranges = seen["static-QDQ-U8S8"]
    assert ranges is not None
    least, most = ranges["x"]
    assert (least, most) == pytest.approx((np.load(calibration)["x"].min(), np.load(calibration)["x"].max()))


def test_changes_follow_one_another() -> None:
    first = Changes(("a",), {"n": "n1"}, {"w": ("w", "w_2")})
    second = Changes(("b",), {"n1": "n2", "m": "m1"}, {"w_2": ("w_3",), "v": ("v_1",)})
    both = first.then(second)
    assert both == Changes(("a", "b"), {"n": "n2", "m": "m1"}, {"w": ("w", "w_3"), "v": ("v_1",)})
    assert (both.node("n"), both.node("k")) == ("n2", "k")
    assert (both.tensor("v"), both.tensor("u")) == (("v_1",), ("u",))


def test_decisions_are_combined() -> None:
    assert Decision(("a",), ("n",)) | Decision(("b", "a"), ("n", "m")) == Decision(("a", "b"), ("n", "m"))
