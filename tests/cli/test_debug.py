from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.debug import scan
from tests.cli.conftest import Command
from tests.debug.conftest import ruined_weight, write_study
from tests.debug.test_parts import chosen_boxes, detector

QDQ = '[[variant]]\nname = "qdq"\nmethod = "static"\n'
REFUSED = '[[variant]]\nname = "refused"\nmethod = "static"\nexclude_nodes = ["nowhere"]\n'


@pytest.fixture
def ruined() -> Path:
    """A study whose node ``bad`` ruins int8, in the working folder."""
    folder = Path("ruined")
    folder.mkdir()
    ruined_weight(folder / "model.onnx")
    write_study(folder, QDQ)
    return folder


def test_it_names_the_culprit_and_what_to_paste(harness: Command, ruined: Path) -> None:
    found = harness("debug", str(ruined), "--samples", "4")
    assert found.code == 0
    for words in (
        "tensors, the lowest SQNR",
        "weights, the lowest SQNR",
        "nodes: the outputs if only this one is quantized",
        "the largest losses are at bad (MatMul)",
    ):
        assert words in found.out
    text = found.out[found.out.index("[[variant]]") :]
    assert 'name = "qdq-exclude' in text
    assert 'exclude_nodes = ["bad"' in text
    assert "quantizing one node at a time" in found.err


def test_json(harness: Command, ruined: Path) -> None:
    found = harness("debug", str(ruined), "--json", "--samples", "4").json
    assert (found["variant"], found["exit"]) == ("qdq", 0)
    assert found["exclusions"][0]["nodes"][0] == "bad"
    assert {"tensors", "weights", "op_types", "nodes", "notes"} <= set(found)


def test_a_bare_model(harness: Command) -> None:
    ruined_weight(Path("model.onnx"))
    found = harness("debug", "model.onnx", "--variants", "dynamic", "--variant", "dynamic-S8", "--samples", "4", "--json").json
    assert found["variant"] == "dynamic-S8"
    assert found["weights"][0]["node"] == "bad"
    assert any("random" in note for note in found["notes"])


def test_a_variant_that_failed_is_shown_beside_the_one_that_is_explained(harness: Command, ruined: Path) -> None:
    write_study(ruined, QDQ + REFUSED)
    found = harness("debug", str(ruined), "--samples", "4", "--max-time", "1s")
    assert found.code == 3
    assert "'nowhere' matches no node" in found.out
    assert "qdq, over 4 samples" in found.out
    alone = harness("debug", str(ruined), "--variant", "refused", "--json")
    assert (alone.code, alone.json["variant"], alone.json["variants"][0]["state"]) == (3, None, "failed")


def test_an_interrupt_prints_what_was_found(harness: Command, ruined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def struck(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(scan, "by_node", struck)
    found = harness("debug", str(ruined), "--samples", "4")
    assert found.code == 130
    assert "tensors, the lowest SQNR" in found.out
    assert "op types: the outputs if only this one is quantized" in found.out
    assert "interrupted" in found.out
    content = json.loads(harness("debug", str(ruined), "--samples", "4", "--json").out)
    assert content["exit"] == 130
    assert content["tensors"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--variant", "qbq"), "did you mean 'qdq'"),
        (("--max-time", "soon"), "--max-time: a duration must be a number above zero"),
        (("--calibration", "x.npz"), "--calibration: only for a bare model"),
    ],
)
def test_wrong_usage(harness: Command, ruined: Path, words: tuple[str, ...], said: str) -> None:
    found = harness("debug", str(ruined), *words)
    assert found.code == 2
    assert said in found.err


def test_what_can_not_be_debugged(harness: Command, ruined: Path) -> None:
    write_study(ruined, '[[variant]]\nname = "never"\nmethod = "static"\nactivation = "QInt8"\nweight = "QUInt8"\n')
    found = harness("debug", str(ruined))
    assert found.code == 2
    assert "variant 'never' can't exist: " in found.err
    given = harness("debug", str(ruined / "model.onnx"), "--variants", "given")
    assert given.code == 2
    assert "no float model to compare with" in given.err
    assert harness("debug", "missing.onnx").code == 2
    alone = harness("debug", str(ruined / "model.onnx"), "--variants", "fp32")
    assert alone.code == 2
    assert "no variant beside fp32" in alone.err


def test_a_metric_of_the_study_is_a_column(harness: Command, ruined: Path) -> None:
    (ruined / "own.py").write_text("def spread(outputs, reference, labels):\n    return float(abs(outputs[0]['y']).max())\n")
    file = ruined / "study.toml"
    file.write_text(file.read_text().replace("[variants]", 'metric = "own.py:spread"\n[variants]'))
    found = harness("debug", str(ruined), "--samples", "4", "--max-time", "1s")
    assert found.code == 0
    assert "spread" in found.out
    file.write_text(file.read_text().replace(":spread", ":lost"))
    refused = harness("debug", str(ruined))
    assert refused.code == 2
    assert "model.metric: " in refused.err
    assert "has no callable 'lost'" in refused.err


def test_a_dead_part_is_in_the_tables(harness: Command) -> None:
    detector(Path(), 1)
    found = harness(
        "debug",
        "model.onnx",
        "--calibration",
        "data.npz",
        "--variants",
        "static",
        "--variant",
        "static-QDQ-U8S8",
        "--samples",
        "4",
    )
    assert found.code == 0
    assert "outputs of the variants, compared with fp32 over 24 samples" in found.out
    assert "rows 4–9 of output0 are constant in this variant but vary in fp32" in " ".join(found.out.split())
    tables = found.out[found.out.index("nodes: the outputs if only this one is quantized") :]
    first = next(line for line in tables.splitlines() if " cat " in line)
    assert "dead" in first
    assert 'exclude_nodes = ["cat"' in found.out


def test_outputs_that_can_not_be_compared_are_no_failure(harness: Command) -> None:
    chosen_boxes(Path())
    found = harness("debug", "model.onnx", "--calibration", "data.npz", "--variants", "dynamic", "--variant", "dynamic-S8")
    assert found.code == 0
    assert "the outputs can't be compared" in " ".join(found.out.split())
