from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.debug import diagnosis, scan
from harness.debug.diagnosis import diagnose
from harness.debug.findings import Diagnosis
from harness.errors import UsageError
from harness.quantize import build
from harness.study import study as studies
from tests.debug.conftest import FEATURES, ruined_tensor, ruined_weight, write_study
from tests.models import images, make_model, tiny_cnn

STATIC = '[[variant]]\nname = "v"\nmethod = "static"\nformat = "{}"\n'
DYNAMIC = '[[variant]]\nname = "v"\nmethod = "dynamic"\n'
# Decibels that a repair must give; what single roundings differ by between machines is far less.
REPAIRED = 15.0


def diagnosed(file: Path, **options: Any) -> Diagnosis:
    found = Diagnosis()
    diagnose(studies.load(file), found, **{"samples": 8, "max_time": 600.0, **options})
    return found


def sqnr(score: Any) -> float:
    assert score is not None
    assert score.fidelity.sqnr_db is not None
    return float(score.fidelity.sqnr_db)


@pytest.mark.parametrize(
    "variant", [STATIC.format("QDQ"), STATIC.format("QOperator"), DYNAMIC], ids=["QDQ", "QOperator", "dynamic"]
)
def test_the_node_that_ruins_is_named_and_excluding_it_repairs(ruined: Path, variant: str) -> None:
    found = diagnosed(write_study(ruined, variant))
    assert found.chosen is not None
    assert found.nodes[0].name == "bad"
    assert found.nodes[1].merit > found.nodes[0].merit + REPAIRED
    assert found.op_types[0].name == "MatMul"
    assert found.weights[0].node == "bad"
    assert (found.weights[0].worst_db or 0) < found.weights[0].sqnr_db - REPAIRED
    assert max(found.tensors, key=lambda loss: loss.lost_db or 0).node in {"bad", "tanh"}
    first = found.exclusions[0]
    assert first.added == ("bad",)
    assert sqnr(first.score) > sqnr(found.chosen.score) + REPAIRED
    assert first.score.samples == 24


def test_a_proposal_can_be_pasted_into_the_study(ruined: Path) -> None:
    file = write_study(ruined, STATIC.format("QDQ") + 'weight = "QUInt8"\n')
    proposed = diagnosed(file).exclusions[0]
    write_study(ruined, proposed.toml)
    study = studies.load(file)
    made = build.build(study, ruined / "out")[-1]
    assert made.state == "made"
    assert made.size == proposed.size
    assert made.recipe.exclude_nodes == proposed.nodes == ("bad",)
    again = diagnosed(file)
    assert again.chosen is not None
    assert sqnr(again.chosen.score) == pytest.approx(sqnr(proposed.score))


def test_a_tensor_that_ruins_takes_all_of_its_nodes(tmp_path: Path) -> None:
    ruined_tensor(tmp_path / "model.onnx")
    # op_types without Concat would leave its output alone; with it, both nodes hold the tensor in int8.
    found = diagnosed(write_study(tmp_path, STATIC.format("QDQ") + 'op_types = ["MatMul", "Concat"]\n'))
    assert found.chosen is not None
    assert "joined" in {loss.name for loss in found.tensors}
    repaired = found.exclusions[-1]
    assert sqnr(repaired.score) > sqnr(found.chosen.score) + REPAIRED
    assert "pick" in repaired.nodes


def test_the_worst_of_several_is_explained(ruined: Path) -> None:
    both = (
        STATIC.format("QDQ").replace('"v"', '"whole"')
        + STATIC.format("QDQ").replace('"v"', '"spared"')
        + 'exclude_nodes = ["bad"]\n'
    )
    file = write_study(ruined, both)
    found = diagnosed(file)
    assert [each.variant.name for each in found.compared] == ["whole", "spared"]
    assert found.chosen is found.compared[0]
    picked = diagnosed(file, globs=["spared"]).chosen
    assert picked is not None
    assert picked.variant.name == "spared"


def test_what_is_excluded_already_is_not_scanned(ruined: Path) -> None:
    found = diagnosed(write_study(ruined, STATIC.format("QDQ") + 'exclude_nodes = ["bad"]\n'))
    assert "bad" not in {node.name for node in found.nodes}
    assert all(exclusion.toml.count('"bad"') == 1 for exclusion in found.exclusions)


def test_json_has_everything_and_no_infinity(ruined: Path) -> None:
    found = diagnosed(write_study(ruined, STATIC.format("QDQ")))
    content = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert content["variant"] == "v"
    assert content["variants"][0]["fidelity"]["sqnr_db"] < content["exclusions"][0]["score"]["fidelity"]["sqnr_db"]
    assert content["nodes"][0]["name"] == "bad"
    assert content["exclusions"][0]["nodes"] == ["bad"]


def test_time_that_is_up_leaves_what_is_known(ruined: Path) -> None:
    found = diagnosed(write_study(ruined, STATIC.format("QDQ")), max_time=1e-6)
    assert found.tensors
    assert (found.op_types, found.nodes, found.exclusions) == ([], [], [])
    assert any("time limit was reached" in note for note in found.notes)
    # Outputs are compared over all samples all the same: that takes no time.
    assert (found.compared_samples, found.evaluation_samples, found.samples) == (24, 24, 8)


def test_outputs_that_take_long_are_compared_over_some_samples(ruined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "COMPARE_LEAST", 0.0)
    found = diagnosed(write_study(ruined, STATIC.format("QDQ")), max_time=1e-6)
    assert (found.compared_samples, found.evaluation_samples) == (8, 24)
    assert "outputs are compared over the first 8 of 24 evaluation samples; a longer --max-time compares more" in found.notes


def test_an_interrupt_keeps_what_was_found(ruined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = scan.by_node

    def struck(*words: Any) -> Any:
        for number, each in enumerate(real(*words)):
            if number == 2:
                raise KeyboardInterrupt
            yield each

    monkeypatch.setattr(scan, "by_node", struck)
    found = Diagnosis()
    with pytest.raises(KeyboardInterrupt):
        diagnose(studies.load(write_study(ruined, STATIC.format("QDQ"))), found, samples=4, max_time=600)
    assert len(found.nodes) == 2
    assert found.tensors
    assert found.op_types


def rated(folder: Path, returned: str) -> Diagnosis:
    """The diagnosis of a study with a metric of its own."""
    (folder / "own.py").write_text(f"def rate(outputs, reference, labels):\n    {returned}\n")
    file = write_study(folder, STATIC.format("QDQ"))
    file.write_text(file.read_text().replace("[variants]", 'metric = "own.py:rate"\n[variants]'))
    return diagnosed(file)


def test_a_metric_that_can_make_nothing_of_a_variant_costs_no_other_figure(ruined: Path) -> None:
    found = rated(ruined, "return 1 / int((outputs[0]['y'] == reference[0]['y']).all())")
    (compared,) = found.compared
    assert compared.state == "made"
    assert compared.score is not None
    assert compared.score.fidelity.sqnr_db is not None
    assert compared.score.metrics == {}
    assert "ZeroDivisionError" in (compared.reason or "")


def test_the_metric_of_the_study_is_in_every_score(ruined: Path) -> None:
    found = rated(ruined, "return {'feeds': len(outputs), 'worst': abs(outputs[0]['y']).max()}")
    assert found.chosen is not None
    assert found.chosen.score is not None
    assert found.chosen.score.metrics["feeds"] == 24
    assert set(found.exclusions[0].score.metrics) == {"feeds", "worst"}


def test_integer_outputs_are_counted(tmp_path: Path) -> None:
    ruined_weight(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["class"], "argmax", axis=1))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("class", TensorProto.INT64, [1, 1]))
    onnx.save(model, tmp_path / "model.onnx")
    found = diagnosed(write_study(tmp_path, STATIC.format("QDQ")))
    assert found.chosen is not None
    assert found.chosen.score is not None
    assert found.chosen.score.fidelity.sqnr_db is None
    assert (found.chosen.score.equal or 0) < 1
    assert found.nodes[0].name == "bad"
    assert found.exclusions[0].added == ("bad",)
    assert (found.exclusions[0].score.equal or 0) > (found.chosen.score.equal or 0)


def test_several_inputs_and_outputs_and_a_body(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    weights = {"w": rng.standard_normal((FEATURES, 4)).astype(np.float32), "zero": np.zeros(1, np.float32)}
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["o"], "inner")], "then", [], [value])
    other = helper.make_graph([helper.make_node("MatMul", ["z", "w"], ["o"], "outer")], "else", [], [value])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "first"),
        helper.make_node("ReduceSum", ["z"], ["total"], "total", keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["sign"], "sign"),
        helper.make_node("Squeeze", ["sign"], ["flag"], "flag"),
        helper.make_node("If", ["flag"], ["chosen"], "if", then_branch=then, else_branch=other),
        helper.make_node("Softmax", ["chosen"], ["s"], "softmax"),
        helper.make_node("ArgMax", ["y"], ["n"], "argmax", axis=0),
    ]
    model = make_model(nodes, {"x": [1, FEATURES], "z": [1, FEATURES]}, {"y": [1, 4], "s": [1, 4]}, weights)
    model.graph.output.append(helper.make_tensor_value_info("n", TensorProto.INT64, [1, 4]))
    onnx.save(model, tmp_path / "model.onnx")
    file = write_study(tmp_path, STATIC.format("QDQ") + DYNAMIC.replace('"v"', '"d"'))
    x, z = rng.standard_normal((2, 6, FEATURES)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, z=z)
    found = diagnosed(file)
    assert [each.state for each in found.compared] == ["made", "made"]
    assert all(each.score is not None and each.score.equal is not None for each in found.compared)
    assert "y" in {loss.name for loss in found.tensors}
    assert any("bodies of If" in note for note in found.notes)
    assert not {"inner", "outer"} & {node.name for node in found.nodes}


def test_labels_give_accuracy_at_each_step(tmp_path: Path) -> None:
    tiny_cnn(tmp_path / "model.onnx")
    file = write_study(tmp_path, STATIC.format("QOperator"))
    file.write_text(file.read_text().replace("[variants]", "dims = { batch = 2 }\n[variants]"))
    np.savez(tmp_path / "data.npz", x=images(12), labels=np.arange(12) % 3)
    found = diagnosed(file)
    assert found.chosen is not None
    assert found.chosen.score is not None
    assert found.chosen.score.fidelity.top1_accuracy is not None
    assert all(exclusion.score.fidelity.top1_accuracy is not None for exclusion in found.exclusions)


def test_half_precision_is_explained_too(ruined: Path) -> None:
    found = diagnosed(write_study(ruined, '[[variant]]\nname = "v"\nmethod = "fp16"\n'), samples=2)
    assert {loss.name for loss in found.tensors} >= {"a", "b", "y"}
    assert {loss.name for loss in found.weights} == {"w1", "w2", "w3"}


def test_a_variant_that_can_not_exist_says_why(ruined: Path) -> None:
    file = write_study(ruined, STATIC.format("QDQ") + 'activation = "QInt8"\nweight = "QUInt8"\n')
    with pytest.raises(UsageError, match=r"variant 'v' can't exist: .*QInt8 with weights QUInt8"):
        diagnosed(file)


def test_a_variant_that_failed_says_why(ruined: Path) -> None:
    found = diagnosed(write_study(ruined, STATIC.format("QDQ") + 'exclude_nodes = ["nowhere"]\n'))
    assert found.chosen is None
    assert found.compared[0].state == "failed"
    assert "nowhere" in str(found.compared[0].reason)


def test_nothing_is_lost_where_nothing_is_quantized(ruined: Path) -> None:
    found = diagnosed(write_study(ruined, STATIC.format("QDQ") + 'exclude_nodes = ["*"]\n'))
    assert found.chosen is None
    assert any("exactly fp32's" in note for note in found.notes)
