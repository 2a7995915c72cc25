"""harness check fails for outputs that broke, whatever it is asked to measure, and says which part of them."""

from __future__ import annotations

import csv
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from tests.models import boxes_and_scores, make_model

if TYPE_CHECKING:
    from tests.cli.conftest import Command, Outcome

pytestmark = pytest.mark.long

# Every score of the candidate is 0, and its logarithm with it.
STEP = 2.5
# A boxes' side that is a little off, in a finished model that is good enough.
GOOD, WORSE = 639.9, 639.0
STUDY = """\
name = "detector"
[model]
path = "fp32.onnx"
evaluation = "evaluation.npz"
calibration = "evaluation.npz"
[variants]
methods = ["fp32"]
[[variant]]
name = "int8"
method = "given"
model = "int8.onnx"
[measure]
rounds = 3
rebuilds = 1
warmup = 0.01
block = 0.004
"""
DEAD = "rows 4–5 of output0 are constant in this variant but vary in "
BOTH = f"{DEAD}fp32"


@pytest.fixture
def detector() -> Path:
    """A study whose finished int8 model is a good one."""
    folder = Path("detector")
    folder.mkdir()
    boxes_and_scores(folder / "fp32.onnx", floor=1e-7)
    boxes_and_scores(folder / "int8.onnx", floor=1e-7, pixels=GOOD)
    np.savez(folder / "evaluation.npz", x=np.random.default_rng(6).normal(size=(16, 3, 8, 8)).astype(np.float32))
    (folder / "study.toml").write_text(STUDY)
    return folder


def checked(harness: Command, *words: str) -> tuple[Outcome, dict[str, str | None]]:
    """Run the gate; the messages of JUnit's failures, by test."""
    done = harness("check", *words)
    root = ET.fromstring(harness("show", "latest", "--format", "junit").out)
    return done, {
        case.attrib["name"]: next((failure.attrib["message"] for failure in case.iter("failure")), None)
        for case in root.iter("testcase")
    }


def test_bare_models_are_held_against_the_baseline(harness: Command) -> None:
    boxes_and_scores(Path("old.onnx"), floor=1e-7)
    boxes_and_scores(Path("new.onnx"), STEP, floor=1e-7)
    words = ["new.onnx", "--baseline", "old.onnx", "--rounds", "3", "--max-regression", "0.9"]
    done, messages = checked(harness, *words)
    assert done.code == 1, done.out + done.err
    assert done.out.splitlines()[-2].startswith("REGRESSED: 1 regressed")
    message = messages["given.outputs"]
    assert message is not None
    assert f"{DEAD}the baseline" in message
    assert message in done.out
    assert messages["given.latency.median"] is None
    annotation = harness("show", "latest", "--format", "github").out.splitlines()[0]
    assert annotation.startswith("::error title=given on local%3A outputs regressed::")
    assert f"{DEAD}the baseline" in annotation
    # The other way round, or against itself, nothing is new.
    done, messages = checked(harness, "old.onnx", "--baseline", "new.onnx", "--metric", "outputs")
    assert (done.code, messages) == (0, {"given.outputs": None})
    done, _ = checked(harness, "new.onnx", "--baseline", "new.onnx", "--metric", "outputs")
    assert done.code == 0


def test_a_study_s_variants_are_held_against_fp32(harness: Command, detector: Path) -> None:
    assert harness("run", str(detector)).code == 0
    assert harness("baseline", "save", "latest", "good").code == 0
    words = [str(detector), "--baseline", "good", "--metric", "size", "--max-regression", "0.9"]
    assert checked(harness, *words)[0].code == 0
    boxes_and_scores(detector / "int8.onnx", STEP, floor=1e-7)
    done, messages = checked(harness, *words)
    assert done.code == 1, done.out + done.err
    assert set(messages) == {"fp32.size", "fp32.outputs", "int8.size", "int8.outputs"}
    assert {name for name, said in messages.items() if said} == {"int8.outputs"}
    assert BOTH in (messages["int8.outputs"] or "")
    assert "; baseline 'good' (" in done.out
    assert "does not have these faults" in (messages["int8.outputs"] or "")
    # Infinities are told by their number.
    boxes_and_scores(detector / "int8.onnx", STEP)
    done, messages = checked(harness, *words)
    assert "2049 of 6144 values of logp are not finite in this variant (fp32: none; the baseline: none)" in (
        messages["int8.outputs"] or ""
    )
    # Once it is the baseline, it passes, and says so.
    assert harness("run", str(detector)).code == 0
    done, messages = checked(harness, str(detector), "--baseline", "latest", "--metric", "size")
    assert done.code == 0
    assert f"the baseline's outputs have the same fault: {BOTH}" in done.out
    (detector / "study.toml").write_text(f"{STUDY}[gate]\ncheck_outputs = false\n")
    done, messages = checked(harness, *words)
    assert (done.code, set(messages)) == (0, {"fp32.size", "int8.size"})


def test_sqnr_falls_by_decibels_of_the_worst_output(harness: Command, detector: Path) -> None:
    assert harness("run", str(detector)).code == 0
    assert harness("baseline", "save", "latest", "good").code == 0
    boxes_and_scores(detector / "int8.onnx", floor=1e-7, pixels=WORSE)
    words = [str(detector), "--baseline", "good", "--metric", "sqnr"]
    done, messages = checked(harness, *words)
    assert done.code == 1, done.out + done.err
    assert "where -1 dB is allowed" in (messages["int8.sqnr"] or "")
    assert messages["fp32.sqnr"] is None
    assert checked(harness, *words, "--max-drop-db", "30")[0].code == 0
    (detector / "study.toml").write_text(f"{STUDY}[gate]\nmax_regression = 0.15\nmax_drop_db = 40\n")
    assert checked(harness, *words)[0].code == 0
    done = harness("check", *words, "--max-regression", "0.5")
    assert (done.code, "--max-drop-db" in done.err) == (2, True)
    done = harness("check", str(detector), "--baseline", "good", "--metric", "top1_agreement")
    assert (done.code, "no output [batch, classes]" in done.err) == (2, True)
    shutil.copy(detector / "int8.onnx", "new.onnx")
    done = harness("check", "new.onnx", "--baseline", "new.onnx", "--metric", "sqnr")
    assert done.code == 2
    assert 'method = "given"' in done.err


def test_a_model_that_draws_random_numbers_has_no_sqnr_to_gate(harness: Command) -> None:
    nodes = [
        onnx.helper.make_node("RandomNormalLike", ["x"], ["r"], "noise"),
        onnx.helper.make_node("Add", ["x", "r"], ["y"], "add"),
    ]
    onnx.save(make_model(nodes, {"x": [2, 3]}, {"y": [2, 3]}), "noisy.onnx")
    done = harness("check", "noisy.onnx", "--baseline", "noisy.onnx", "--variants", "fp32", "--metric", "sqnr")
    assert done.code == 2
    assert "RandomNormalLike 'noise'" in done.err
    # What can't be compared is not judged, and is said.
    done, messages = checked(harness, "noisy.onnx", "--baseline", "noisy.onnx", "--metric", "size")
    assert (done.code, messages) == (0, {"given.outputs": None, "given.size": None})
    assert "outputs not judged: two runs on the same inputs differ" in done.out


def test_a_run_tells_what_broke_in_every_file(harness: Command, detector: Path) -> None:
    boxes_and_scores(detector / "int8.onnx", STEP)
    done = harness("run", str(detector))
    assert done.code == 0
    for words in (BOTH, "2049 of 12288 output values are not finite in this variant (fp32: none)"):
        for form in ("table", "md", "html", "junit", "csv", "json", "pytest-benchmark"):
            assert words in harness("show", "latest", "--format", form).out.replace("\\u2013", "–"), form
    rows = {row["variant"]: row for row in csv.DictReader(harness("show", "latest", "--format", "csv").out.splitlines())}
    assert rows["int8"]["dead"] == "rows 4–5 of output0"
    assert (rows["int8"]["inf_count"], rows["fp32"]["inf_count"]) == ("2049", "0")
