"""Variants whose outputs are near fp32's as a whole, while a part of them is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.debug.diagnosis import diagnose, preparation_note
from harness.debug.evaluation import begin
from harness.debug.findings import Diagnosis
from harness.quantize.data import load
from harness.quantize.model.model import read_model
from harness.study import study as studies
from tests.models import make_model

CLASSES, CELLS, SAMPLES = 6, 64, 24
STUDY = """\
name = "detector"
[model]
path = "model.onnx"
calibration = "data.npz"
[variants]
methods = []
[[variant]]
name = "v"
method = "static"
format = "{}"
"""


def diagnosed(folder: Path, form: str = "QDQ", more: str = "", **options: Any) -> Diagnosis:
    (folder / "study.toml").write_text(STUDY.format(form) + more)
    found = Diagnosis()
    diagnose(studies.load(folder / "study.toml"), found, **{"samples": 8, "max_time": 600.0, **options})
    return found


def detector(folder: Path, axis: int) -> None:
    """Write a model whose one output joins boxes of 0 ... 640 with scores of 0 ... 1, along an axis of [1, 10, 64] or [1, 64, 10]."""
    rng = np.random.default_rng(3)
    shapes = ([1, 4, -1], [1, CLASSES, -1]) if axis == 1 else ([1, -1, 4], [1, -1, CLASSES])
    constants = {
        "w0": rng.normal(size=(16, 3, 3, 3)) / 5,
        "wb": rng.normal(size=(4, 16, 1, 1)) / 4,
        "ws": rng.normal(size=(CLASSES, 16, 1, 1)) / 3,
        "bs": -2 * np.ones(CLASSES),
        "px": np.array([640.0]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "stem", strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "wb"], ["b1"], "box"),
        helper.make_node("Sigmoid", ["b1"], ["b2"], "box_sigmoid"),
        helper.make_node("Mul", ["b2", "px"], ["b3"], "pixels"),
        helper.make_node("Reshape", ["b3", "shape_b"], ["boxes"], "box_shape"),
        helper.make_node("Conv", ["r", "ws", "bs"], ["c1"], "cls"),
        helper.make_node("Sigmoid", ["c1"], ["c2"], "score_sigmoid"),
        helper.make_node("Reshape", ["c2", "shape_c"], ["scores"], "score_shape"),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], "cat", axis=axis),
    ]
    size = [1, 4 + CLASSES, CELLS] if axis == 1 else [1, CELLS, 4 + CLASSES]
    floats = {name: value.astype(np.float32) for name, value in constants.items()}
    model = make_model(nodes, {"x": [1, 3, 32, 32]}, {"output0": size}, floats)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(shape, np.int64), name)
        for name, shape in zip(("shape_b", "shape_c"), shapes, strict=True)
    )
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "data.npz", x=rng.normal(size=(SAMPLES, 3, 32, 32)).astype(np.float32))


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(("axis", "dead"), [(1, "rows 4–9"), (2, "columns 4–9")])
def test_a_concat_that_kills_the_scores_is_named_and_excluded(tmp_path: Path, form: str, axis: int, dead: str) -> None:
    detector(tmp_path, axis)
    found = diagnosed(tmp_path, form)
    assert found.chosen is not None
    assert found.chosen.score is not None
    whole = found.chosen.score.fidelity
    assert (whole.sqnr_db or 0) > 35
    assert whole.notes[0] == f"{dead} of output0 are constant in this variant but vary in fp32"
    if form == "QDQ":  # where alone a QLinearConcat is not made
        assert "cat" in [node.name for node in found.nodes[:2]]
    first = found.exclusions[0]
    assert "cat" in first.nodes
    assert first.score.fidelity.dead == ()
    assert (first.score.fidelity.worst_db or 0) > 15


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_a_concat_kills_and_a_split_passes_on_takes_both(tmp_path: Path, form: str) -> None:
    """The scores are an output of their own, which is rounded with the scale of the boxes while Concat or Split is quantized."""
    detector(tmp_path, 1)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.node[-1].output[0] = "joined"
    model.graph.node.extend(
        [
            helper.make_node("Transpose", ["joined"], ["turned"], "turn", perm=[0, 2, 1]),
            helper.make_node("Split", ["turned", "sizes"], ["places", "chances"], "split", axis=2),
        ]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([4, CLASSES]), "sizes"))
    model.graph.ClearField("output")
    model.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, CELLS, size])
        for name, size in (("places", 4), ("chances", CLASSES))
    )
    onnx.save(model, tmp_path / "model.onnx")
    found = diagnosed(tmp_path, form)
    assert found.chosen is not None
    assert found.chosen.score is not None
    assert "chances is constant in this variant but varies in fp32" in found.chosen.score.notes
    first = found.exclusions[0]
    assert {"cat", "split"} <= set(first.nodes)
    assert first.score.fidelity.dead == ()


def test_what_is_dead_is_in_the_answer(tmp_path: Path) -> None:
    detector(tmp_path, 1)
    answer = diagnosed(tmp_path, max_time=1e-3).as_json()
    told = answer["variants"][0]
    assert told["fidelity"]["dead"][0]["first"] == 4
    assert told["fidelity"]["dead"][0]["last"] == 9
    assert "rows 4–9 of output0 are constant in this variant but vary in fp32" in told["notes"]
    by_name = {tensor["name"]: tensor for tensor in answer["tensors"]}
    assert by_name["output0"]["dead"] == "rows 4–9"


def chosen_boxes(folder: Path, *, more_outputs: bool = False) -> None:
    """Write a model of which the data decide how many results there are: NonZero of what is above a threshold."""
    rng = np.random.default_rng(8)
    constants = {"w": rng.normal(size=(16, 64)).astype(np.float32), "limit": np.array(0.0, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"], "score"),
        helper.make_node("Greater", ["scores", "limit"], ["above"], "above"),
        helper.make_node("NonZero", ["above"], ["places"], "places"),
        helper.make_node("Transpose", ["places"], ["rows"], "turn", perm=[1, 0]),
        helper.make_node("GatherND", ["scores", "rows"], ["kept"], "keep"),
    ]
    outputs: dict[str, Any] = {"kept": ["n"]} | ({"scores": [1, 64]} if more_outputs else {})
    onnx.save(make_model(nodes, {"x": [1, 16]}, outputs, constants), folder / "model.onnx")
    np.savez(folder / "data.npz", x=rng.normal(size=(SAMPLES, 16)).astype(np.float32))


def test_outputs_whose_number_depends_on_the_data_are_no_failure(tmp_path: Path) -> None:
    chosen_boxes(tmp_path)
    found = diagnosed(tmp_path)
    assert [each.state for each in found.compared] == ["made"]
    assert "the outputs can't be compared: the variant gives another shape than fp32" in (found.compared[0].reason or "")
    assert "output 'kept' of sample" in (found.compared[0].reason or "")
    # What is inside is compared all the same, and nothing is searched for that could not be told.
    assert {loss.name for loss in found.tensors} >= {"scores"}
    assert (found.nodes, found.exclusions) == ([], [])
    assert any("can't be compared with fp32's, so nodes are neither scanned nor proposed" in note for note in found.notes)


def test_the_outputs_of_the_same_shape_are_compared(tmp_path: Path) -> None:
    chosen_boxes(tmp_path, more_outputs=True)
    found = diagnosed(tmp_path)
    score = found.compared[0].score
    assert score is not None
    assert score.uneven == ("kept",)
    assert score.notes[0].startswith("output 'kept' can't be compared")
    assert [each.name for each in score.fidelity.outputs] == ["scores"]
    assert found.nodes[0].name == "score"


def test_a_batch_in_which_one_loud_sample_hides_quiet_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    weights = {"w": rng.normal(size=(16, 10)).astype(np.float32)}
    onnx.save(
        make_model([helper.make_node("MatMul", ["x", "w"], ["y"], "mm")], {"x": [8, 16]}, {"y": [8, 10]}, weights),
        tmp_path / "model.onnx",
    )
    x = rng.normal(size=(64, 16)).astype(np.float32)
    x[::8] *= 30
    np.savez(tmp_path / "data.npz", x=x)
    found = diagnosed(tmp_path)
    assert found.chosen is not None
    assert found.chosen.score is not None
    figures = found.chosen.score.fidelity
    assert figures.worst_sample is not None
    assert (figures.worst_sample.sample or 0) % 8
    assert any(note.startswith(f"sample {figures.worst_sample.sample} of y has an SQNR of") for note in figures.notes)


def test_a_prepared_model_that_computes_something_else_is_told(tmp_path: Path) -> None:
    detector(tmp_path, 1)
    own = read_model(tmp_path / "model.onnx")
    feeds = load.load(str(tmp_path / "data.npz"), own, {}, what="evaluation")
    evaluation = begin(tmp_path / "model.onnx", feeds, None, seconds=1, least=4)
    assert preparation_note(evaluation, tmp_path / "model.onnx") is None
    changed = onnx.load(tmp_path / "model.onnx")
    weight = next(each for each in changed.graph.initializer if each.name == "wb")
    weight.CopyFrom(onnx.numpy_helper.from_array(1.1 * onnx.numpy_helper.to_array(weight), "wb"))
    onnx.save(changed, tmp_path / "prepared.onnx")
    note = preparation_note(evaluation, tmp_path / "prepared.onnx")
    assert (note or "").startswith("preparation alone changes the outputs (SQNR ")
