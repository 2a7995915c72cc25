"""What debug compares a variant's outputs with: those of fp32 that reproduce themselves, and the labels' own output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from harness.debug import evaluation
from harness.debug.diagnosis import diagnose
from harness.debug.findings import Diagnosis
from harness.quantize.data.load import Samples
from harness.study.study import for_model
from tests.models import make_model
from tests.quantize.model.test_random_nodes import model, noise, value

if TYPE_CHECKING:
    from pathlib import Path

FEEDS = [{"x": np.random.default_rng(index).normal(size=(4, 16)).astype(np.float32)} for index in range(4)]
SAMPLES = Samples(FEEDS, None, "test")


def noisy(tmp_path: Path, *, other: bool) -> Path:
    made = model([*noise(), *([helper.make_node("Relu", ["x"], ["z"])] if other else [])])
    made.graph.output.extend([value("z")] if other else [])
    onnx.save(made, tmp_path / "noisy.onnx")
    return tmp_path / "noisy.onnx"


def test_only_what_reproduces_itself_is_compared(tmp_path: Path) -> None:
    path = noisy(tmp_path, other=True)
    begun = evaluation.begin(path, SAMPLES, None, seconds=1, least=4)
    assert begun.is_comparable
    assert "RandomNormalLike 'noise'" in begun.notes[0]
    score = begun.score(path)
    assert score.fidelity.identical
    assert [each.name for each in score.fidelity.outputs] == ["z"]


def test_nothing_is_said_of_outputs_that_can_not_be_compared(tmp_path: Path) -> None:
    path = noisy(tmp_path, other=False)
    begun = evaluation.begin(path, SAMPLES, None, seconds=1, least=4)
    assert not begun.is_comparable
    score = begun.score(path)
    assert (score.fidelity.sqnr_db, score.fidelity.identical) == (None, False)


def test_no_variant_of_a_random_model_is_explained(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="mm"),
        helper.make_node("RandomNormalLike", ["a"], ["n"], name="noise"),
        helper.make_node("Add", ["a", "n"], ["y"], name="add"),
    ]
    weight = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    onnx.save(make_model(nodes, {"x": [4, 16]}, {"y": [4, 8]}, {"w": weight}), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.concatenate([feed["x"] for feed in FEEDS]))
    study = for_model(tmp_path / "m.onnx", calibration=str(tmp_path / "d.npz"))
    found = Diagnosis()
    diagnose(study, found, globs=["dynamic-S8"], max_time=600)
    assert [each.state for each in found.compared] == ["made"]
    assert found.chosen is None
    assert any("does not reproduce itself" in note for note in found.notes)


def test_labels_are_held_against_the_output_that_the_study_names(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Neg", ["x"], ["n"])]
    onnx.save(make_model(nodes, {"x": [4, 16]}, {"r": [4, 16], "n": [4, 16]}, {}), tmp_path / "m.onnx")
    labels = np.concatenate([feed["x"].argmin(axis=1) for feed in FEEDS])
    samples = Samples(FEEDS, labels, "test")
    for output, accuracy in (("n", 1.0), ("r", 0.0)):
        begun = evaluation.begin(tmp_path / "m.onnx", samples, None, seconds=1, least=4, output=output)
        found = begun.score(tmp_path / "m.onnx").fidelity
        assert (found.top1_accuracy, found.top1_agreement) == (accuracy, 1.0)
