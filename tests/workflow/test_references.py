"""What each side of a gate is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.measure.accuracy import HERE
from harness.measure.plan import Case
from harness.study import study as studies
from harness.workflow import baselines, preflight, references
from tests.measure.test_accuracy import packed
from tests.models import boxes_and_scores

if TYPE_CHECKING:
    from harness.measure.events import FidelityLine
    from harness.workflow.baselines import BaselineSource


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, pixels in (("new", 640.0), ("old", 500.0)):
        boxes_and_scores(Path(f"{name}.onnx"), floor=1e-7, pixels=pixels)
    np.savez("data.npz", x=np.random.default_rng(6).normal(size=(4, 3, 8, 8)).astype(np.float32))


def study(*methods: str) -> studies.Study:
    found = studies.for_model(Path("new.onnx"), evaluation="data.npz", calibration="data.npz")
    return found.model_copy(update={"variants": found.variants.model_copy(update={"methods": list(methods)})})


def against(asked: studies.Study, baseline: str) -> tuple[references.References, preflight.Preflight]:
    here = preflight.check_inputs(asked)
    found: BaselineSource = baselines.resolve(baseline, Path("results"), Path("baselines"), asked)
    return references.of(here, found), here


def line(found: references.References, variant: str, outputs: list[list[np.ndarray]]) -> FidelityLine:
    """What comes of a case that computes these outputs."""
    case = Case(id="c0", name=variant, variant=variant, threads=1, provider="CPUExecutionProvider", dims={})
    return found.compare("board", case, packed(*[array for sample in outputs for array in sample]))


def test_variants_of_another_model_are_compared_with_that_model() -> None:
    found, here = against(study("fp32", "static"), "old.onnx")
    new, old = here.references[0].outputs, found.baseline[0].outputs
    assert not np.array_equal(new[0][0], old[0][0])
    assert line(found, "static", new).fidelity.identical
    assert line(found, "baseline:static", old).fidelity.identical
    assert not line(found, "static", old).fidelity.identical
    assert line(found, "static", old).reference == "fp32"


def test_the_same_model_is_run_once() -> None:
    found, here = against(study("fp32", "static"), "new.onnx")
    assert found.candidate is found.baseline is here.references


def test_bare_models_are_both_compared_with_the_baseline() -> None:
    found, here = against(study("given"), "old.onnx")
    assert found.candidate is found.baseline
    said = line(found, "given", here.references[0].outputs)
    assert (said.reference, said.fidelity.identical) == ("the baseline", False)
    same, _ = against(study("given"), "new.onnx")
    assert line(same, "given", here.references[0].outputs).reference == "the baseline"
    assert here.references[0].title == HERE


def test_another_runtime_is_held_against_the_same_model() -> None:
    found, here = against(study("given"), "onnxruntime==1.20.0")
    assert found.candidate is found.baseline is here.references


def test_a_baseline_without_its_fp32_model_leaves_its_distances_out() -> None:
    here = preflight.check_inputs(study("fp32", "static"))
    source = baselines.resolve("old.onnx", Path("results"), Path("baselines"), study("fp32", "static"))
    lost = references.of(here, baselines.BaselineSource(source.baseline))
    outputs = here.references[0].outputs
    assert line(lost, "static", outputs).fidelity.identical
    said = line(lost, "baseline:static", outputs)
    assert (said.fidelity.sqnr_db, said.fidelity.values) == (None, 0)
    assert "has no fp32 model" in (said.reason or "")
