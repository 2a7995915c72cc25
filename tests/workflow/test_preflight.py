"""What is found out before anything is made: outputs that do not reproduce themselves, the output that labels are of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.devices import registry
from harness.errors import ModelError, StudyError
from harness.study import study as studies
from harness.study.claims_and_gate import GateSection
from harness.workflow import baselines, check_preflight, preflight
from tests.models import make_model
from tests.quantize.model.test_random_nodes import model, noise

if TYPE_CHECKING:
    from harness.study.study import Study

FEED = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=FEED, labels=FEED.argmax(axis=1))
    onnx.save(model(noise()), "noisy.onnx")
    nodes = [helper.make_node("Neg", ["x"], ["away"]), helper.make_node("Relu", ["x"], ["scores"])]
    onnx.save(make_model(nodes, {"x": [4, 16]}, {"away": [4, 16], "scores": [4, 16]}, {}), "two.onnx")


def study(name: str, **more: Any) -> Study:
    return studies.for_model(Path(name), calibration="data.npz", evaluation="data.npz", **more)


def test_a_model_that_does_not_reproduce_itself_is_told() -> None:
    (note,) = [note for note in preflight.check_inputs(study("noisy.onnx")).warnings if "RandomNormalLike 'noise'" in note]
    assert "does not reproduce itself" in note


def test_random_nodes_that_made_no_difference_are_told() -> None:
    nodes = [*noise()[:1], helper.make_node("Sub", ["n", "n"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"])]
    onnx.save(model(nodes), "same.onnx")
    (note,) = [note for note in preflight.check_inputs(study("same.onnx")).warnings if "RandomNormalLike 'noise'" in note]
    assert "gave the same outputs" in note


def test_the_output_that_labels_are_compared_with_is_said() -> None:
    said = "\n".join(preflight.check_inputs(study("two.onnx")).warnings)
    assert "the labels are compared with output 'away'" in said
    assert "fp32 itself gets 0.0 %" not in said  # 16 rows are too few to tell
    said = "\n".join(preflight.check_inputs(study("two.onnx", output="scores")).warnings)
    assert "the labels are compared with output 'scores'" in said


def test_an_output_that_is_not_there() -> None:
    with pytest.raises(ModelError, match=r"no output is called 'score'; did you mean 'scores'\?"):
        preflight.check_inputs(study("two.onnx", output="score"))


def test_a_gate_can_not_go_by_outputs_that_do_not_reproduce_themselves(tmp_path: Path) -> None:
    asked = study("noisy.onnx")
    gate = GateSection(metric=["sqnr"])
    asked = asked.model_copy(update={"gate": gate})
    source = baselines.resolve("two.onnx", tmp_path, tmp_path, asked)
    known = registry.load(None)
    with pytest.raises(StudyError, match=r"the gate's metric is sqnr, but the model does not reproduce itself"):
        check_preflight.check(preflight.check_inputs(asked), source, known.select(["local"]), known, [])
