"""Outputs that are no tensors of numbers: whoever gives figures says that they are not compared, and calls nothing identical."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.debug import evaluation
from harness.debug.diagnosis import diagnose
from harness.debug.findings import Diagnosis
from harness.measure.accuracy import Reference
from harness.quantize.data.load import Samples
from harness.quantize.verify import uncompared
from harness.study.study import for_model
from tests.measure.test_accuracy import CASE, packed

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto, TypeProto

node = helper.make_node
FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
MAPS = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, FLOATS))
FEEDS = [{"x": np.random.default_rng(index).normal(size=(4, 16)).astype(np.float32)} for index in range(4)]
SAMPLES = Samples(FEEDS, None, "test")


def classifier(kind: str, *, label: bool = True, shift: float = 0.0) -> ModelProto:
    """Labels as integers, and the scores in a form that is no tensor of numbers; ``shift`` changes the scores alone."""
    forms: dict[str, tuple[Any, TypeProto]] = {
        "maps": (node("ZipMap", ["s"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]), MAPS),
        "sequence": (node("SplitToSequence", ["s"], ["p"], axis=1), helper.make_sequence_type_proto(FLOATS)),
        "text": (node("Cast", ["s"], ["p"], to=TensorProto.STRING), helper.make_tensor_type_proto(TensorProto.STRING, [4, 3])),
    }
    made, type_ = forms[kind]
    nodes = [
        node("MatMul", ["x", "w"], ["l"], "fc"),
        node("Add", ["l", "shift"], ["s"], "add"),
        made,
        node("ArgMax", ["l"], ["y"], axis=1, keepdims=0),
    ]
    weights = np.random.default_rng(3).normal(size=(16, 3)).astype(np.float32)
    labels = [helper.make_tensor_value_info("y", TensorProto.INT64, [4])] if label else []
    graph = helper.make_graph(
        nodes if label else nodes[:-1],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 16])],
        [*labels, helper.make_value_info("p", type_)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(shift, np.float32), "shift")],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


WORDS = {"maps": "'p' (sequence of maps)", "sequence": "'p' (sequence of tensors)", "text": "'p' (text)"}


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("label", [True, False])
def test_devices_figures_say_so(tmp_path: Path, kind: str, label: bool) -> None:
    onnx.save(classifier(kind, label=label), tmp_path / "m.onnx")
    reference = Reference(tmp_path / "m.onnx", SAMPLES)
    assert any(WORDS[kind] in note and "not compared" in note for note in reference.doubts())
    found = reference.compare("board", CASE, packed(*(value for sample in reference.outputs for value in sample)))
    assert not found.fidelity.identical
    assert WORDS[kind] in (found.uncompared or "")


@pytest.mark.parametrize("kind", WORDS)
def test_debug_says_so(tmp_path: Path, kind: str) -> None:
    onnx.save(classifier(kind), tmp_path / "m.onnx")
    onnx.save(classifier(kind, shift=1.0), tmp_path / "other.onnx")
    begun = evaluation.begin(tmp_path / "m.onnx", SAMPLES, None, seconds=1, least=4)
    assert any(WORDS[kind] in note and "not compared" in note for note in begun.notes)
    score = begun.score(tmp_path / "other.onnx")
    assert not score.fidelity.identical
    assert score.fidelity.is_exact


def test_debug_does_not_say_that_nothing_is_lost(tmp_path: Path) -> None:
    onnx.save(classifier("maps"), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.concatenate([feed["x"] for feed in FEEDS]))
    study = for_model(tmp_path / "m.onnx", calibration=str(tmp_path / "d.npz"))
    found = Diagnosis()
    diagnose(study, found, globs=["dynamic-S8"], max_time=600)
    assert not [note for note in found.notes if "nothing is lost" in note]
    assert [note for note in found.notes if WORDS["maps"] in note]


def test_tensors_of_numbers_need_no_sentence(tmp_path: Path) -> None:
    made = classifier("maps")
    del made.graph.output[1]
    onnx.save(made, tmp_path / "m.onnx")
    assert uncompared.sentence({"y": "tensor(int64)"}, ["y"]) is None
    reference = Reference(tmp_path / "m.onnx", SAMPLES)
    assert reference.uncompared is None
    assert reference.compare("board", CASE, packed(*(sample[0] for sample in reference.outputs))).fidelity.identical


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        ("map(string,tensor(float))", "map"),
        ("optional(tensor(float))", "optional value"),
        ("tensor(bfloat16)", "tensor(bfloat16)"),
    ],
)
def test_every_type_has_words(type_: str, words: str) -> None:
    said = uncompared.sentence({"y": "tensor(int64)", "p": type_, "q": "seq(tensor(float))"}, ["y"])
    assert said is not None
    assert said.startswith(f"outputs 'p' ({words}), 'q' (sequence of tensors) are not compared")
