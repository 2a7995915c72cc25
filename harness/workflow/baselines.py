"""Resolve a baseline: a saved one, a finished run, a model file, or another version of onnxruntime."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import paths
from harness.errors import ResultsError
from harness.measure import pairs
from harness.quantize.model.model import open_model, read_model
from harness.records import baseline_file
from harness.records.baseline import Baseline, BaselineDevice, Level
from harness.study.toml_file import nearest
from harness.workflow.results import read_run

if TYPE_CHECKING:
    from harness.judge.judgement import Judgement
    from harness.quantize.model.model import SourceModel
    from harness.study.study import Study

RUNTIME = re.compile(r"onnxruntime==(\d+(?:\.\d+){1,3})")


@dataclass(frozen=True)
class BaselineSource:
    """What the candidate is compared with.

    Attributes:
        baseline: as it is kept with the run.
        model: the bare model that variants are made of, if it is one.
        runtime: the other onnxruntime, if it is one.
    """

    baseline: Baseline
    model: SourceModel | None = None
    runtime: str | None = None


def resolve(name: str, results: Path, baselines: Path, study: Study) -> BaselineSource:
    """Resolve the name of a baseline: a saved one, ``onnxruntime==VERSION``, a model file or a run.

    Raises:
        ResultsError: if it is none, or its models are missing.
        ModelError: if it is a model that can't be used.
    """
    if found := RUNTIME.fullmatch(name):
        return BaselineSource(Baseline(name=name, kind="runtime"), runtime=found[1])
    if name.endswith(".onnx"):
        path = Path(name)
        model = read_model(path) if study.is_given else open_model(path)
        return BaselineSource(Baseline(name=name, kind="model", model_sha256=model.sha256), model=model)
    saved = Path(name) if name.endswith(baseline_file.SUFFIX) else baselines / f"{name}{baseline_file.SUFFIX}"
    if saved.is_file():
        return BaselineSource(baseline_file.load(saved, paths.models()))
    try:
        folder, judgement = read_run(name, results)
    except ResultsError as exc:
        names = sorted(path.stem for path in baselines.glob(f"*{baseline_file.SUFFIX}"))
        saved_ones = nearest(name, names) if names else f"none in {baselines}"
        message = (
            f"no baseline '{name}': it is not a saved baseline ({saved_ones}), a model file or onnxruntime==VERSION, and there is {exc}; "
            "to save a baseline: harness baseline save RUN NAME"
        )
        raise ResultsError(message) from exc
    return BaselineSource(baseline_file.of_folder(of_run(judgement, name), folder))


def of_run(judgement: Judgement, name: str) -> Baseline:
    """Use a finished run as the baseline; from a gate's run, use its candidate.

    Raises:
        ResultsError: if it has nothing to compare with.
    """
    run = judgement.run
    variants = tuple(each for each in run.variants if each.state == "made" and not each.name.startswith(pairs.BASELINE))
    if not variants:
        message = f"run {run.id} has no variants, so it can't be a baseline"
        raise ResultsError(message)
    devices = {}
    for table in judgement.tables:
        found = table.device.context
        levels = {
            row.case: Level(median=row.median.value, low=row.median.low, high=row.median.high)
            for row in table.rows
            if row.state == "measured" and row.median and not row.variant.startswith(pairs.BASELINE)
        }
        if found is not None and levels:
            devices[table.device.entry.name] = BaselineDevice(context=found, levels=levels, noise=table.noise)
    return Baseline(
        name=name, kind="run", run=run.id, build=run.build, taken=run.started, model_sha256=run.model_sha256, variants=variants,
        devices=devices,
    )  # fmt: skip
