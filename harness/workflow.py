"""``harness run`` as small steps, each given the last one's result: question → variants → measurements → run → files."""

from __future__ import annotations

import platform
import random
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness import places
from harness.errors import Exit, ResultsError
from harness.judge import summary
from harness.measure import accuracy, pairs, plan
from harness.measure.campaign import Campaign, Work
from harness.measure.journal import Journal
from harness.quantize import build, data, matrix
from harness.quantize.dims import resolve_dims
from harness.quantize.model import open_model
from harness.records import folder as run_folder
from harness.records import samples as run_samples
from harness.records.run import DeviceRecord, Run, Versions
from harness.report import formats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.registry import Device, Registry
    from harness.judge.summary import Table
    from harness.measure.events import Event
    from harness.quantize.data import Samples
    from harness.quantize.model import SourceModel
    from harness.quantize.recipe import Recipe, Variant
    from harness.study import Study


class Watcher(Protocol):
    """Is told how a run goes on; methods are called from several threads."""

    def variant(self, variant: Variant, total: int) -> None:
        """A variant is made, or is not."""

    def plan(self, devices: Sequence[Device], cases: Sequence[plan.Case], rounds: int) -> None:
        """Measuring begins."""

    def event(self, event: Event) -> None:
        """Something came from a device; it is on disk already."""


@dataclass(frozen=True)
class Question:
    """A study whose parts were found to fit each other; nothing is made yet.

    Attributes:
        dims: the symbolic dimensions' values, one set for each shape.
        evaluation: the evaluation samples, one for each of dims.
        warnings: what a reader of the numbers must know.
    """

    study: Study
    model: SourceModel
    dims: tuple[dict[str, int], ...]
    recipes: tuple[Recipe, ...]
    evaluation: tuple[Samples, ...]
    references: tuple[accuracy.Reference, ...]
    warnings: tuple[str, ...]


def ask(study: Study, globs: Sequence[str] = ()) -> Question:
    """Check a study against its model and data, before anything is made.

    Raises:
        UsageError: a member of its branch, if a part is missing or does not fit.
    """
    model = open_model(study.model.path)
    dims = resolve_dims(model, study.model.dims)
    recipes = matrix.select(matrix.plan(study), globs) if globs else matrix.plan(study)
    source = study.model.evaluation or study.model.calibration
    evaluation = tuple(data.load(source, model, values, what="evaluation") for values in dims)
    if build.needs_calibration(recipes):
        # Loaded again when it is used; here only so that data that don't fit end the run before it begins.
        calibration = data.load(study.model.calibration, model, dims[0], what="calibration")
    else:
        calibration = evaluation[0]
    references = tuple(accuracy.Reference(study.model.path, samples) for samples in evaluation)
    notes = dict.fromkeys(note for samples in (calibration, *evaluation) for note in samples.notes)
    return Question(study, model, dims, recipes, evaluation, references, (*notes, *_unjudged(study)))


def _unjudged(study: Study) -> list[str]:
    """Say what this version reads but does not act on."""
    parts = [f"{len(study.claim)} [[claim]]"] if study.claim else []
    parts += ["[gate]"] if study.gate else []
    return [f"{' and '.join(parts)} in the study: kept with the run, not judged by this version"] if parts else []


def run(
    question: Question, devices: Sequence[Device], registry: Registry, results: Path, watcher: Watcher
) -> tuple[Path, Run, tuple[Table, ...]]:
    """Make the variants, measure them on all devices, and write the run's folder.

    Returns:
        The folder, the run and its tables.

    Raises:
        KeyboardInterrupt: never; a run that was interrupted says so in its state.
        ResultsError: if the results folder can't be written.
    """
    study = question.study
    started = datetime.now(UTC)
    folder = run_folder.create(results, study.name, started)
    seed = random.SystemRandom().getrandbits(32)
    variants: list[Variant] = []
    with tempfile.TemporaryDirectory(prefix="quant-harness-") as scratch:
        inputs = [
            accuracy.write_inputs(samples, values, Path(scratch))
            for samples, values in zip(question.evaluation, question.dims, strict=True)
        ]

        def made(variant: Variant) -> None:
            variants.append(variant)
            watcher.variant(variant, len(question.recipes))

        interrupted = False
        try:
            build.build(
                study,
                folder / run_folder.VARIANTS,
                model=question.model,
                dims=question.dims[0],
                recipes=question.recipes,
                cache=places.variants(),
                on_event=made,
            )
        except KeyboardInterrupt:
            interrupted = True
        except ResultsError:
            # Nothing was measured: nothing is left behind.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        cases = plan.cases(variants, study.measure, question.dims, plan.runtimes(devices))
        by_name = {variant.name: variant for variant in variants}
        units = pairs.units(cases, by_name, study.claim)
        begun = Run(
            id=f"{study.name}/{folder.name}",
            started=started,
            study=study,
            model_sha256=question.model.sha256,
            model_size=question.model.size,
            versions=_versions(),
            seed=seed,
            variants=tuple(_relative(variant, folder) for variant in variants),
            cases=cases,
            devices=tuple(DeviceRecord(entry=device) for device in devices),
            warnings=question.warnings,
            units=units,
        )
        run_folder.save(folder, begun)
        if not interrupted:
            by_dims = {tuple(values.items()): found for values, found in zip(question.dims, question.references, strict=True)}
            work = Work(
                cases=cases,
                units=units,
                variants=by_name,
                inputs=inputs,
                measure=study.measure,
                compare=lambda device, case, outputs: by_dims[tuple(case.dims.items())].compare(device, case, outputs),
                seed=seed,
            )
            watcher.plan(devices, cases, study.measure.rounds)
            interrupted = _measure(work, devices, registry, folder, watcher)
    return finish(folder, begun, interrupted=interrupted)


def _measure(work: Work, devices: Sequence[Device], registry: Registry, folder: Path, watcher: Watcher) -> bool:
    """Run the campaign; returns whether it was interrupted."""
    journal = Journal(folder / run_folder.JOURNAL)
    try:
        Campaign(work, registry, journal, watcher.event).run(devices)
    except KeyboardInterrupt:
        return True
    finally:
        journal.close()
    return False


def finish(folder: Path, begun: Run, *, interrupted: bool) -> tuple[Path, Run, tuple[Table, ...]]:
    """Put the run together from its journal and write its files; run.json last, for it says that the folder is complete.

    Raises:
        ResultsError: if a file can't be written.
    """
    whole = run_folder.gather(folder, begun)
    ended = whole.model_copy(update={"state": "interrupted" if interrupted else "complete", "finished": datetime.now(UTC)})
    tables = summary.tables(ended, run_samples.quantiles(folder / run_folder.SAMPLES))
    try:
        for path, content in formats.files(folder, ended, tables).items():
            path.parent.mkdir(exist_ok=True)
            run_folder.write_bytes(path, content)
    except OSError as exc:
        message = (
            f"{exc.filename or folder}: can't be written: {exc.strerror}; what was measured is in {folder / run_folder.JOURNAL}"
        )
        raise ResultsError(message) from exc
    run_folder.save(folder, ended)
    return folder, ended, tables


def show(name: str, results: Path) -> tuple[Path, Run, tuple[Table, ...]]:
    """Read a run's tables.

    Raises:
        ResultsError: if there is no such run, or it is damaged.
    """
    folder = run_folder.find(name, results)
    found = run_folder.load(folder)
    return folder, found, summary.tables(found, run_samples.quantiles(folder / run_folder.SAMPLES))


def verdict(run: Run) -> Exit:
    """Say how a run ended."""
    if run.state == "interrupted":
        return Exit.INTERRUPTED
    failed = [device for device in run.devices if device.state == "failed"]
    if (
        failed
        and all(device.step == "lease" for device in failed)
        and not any(record.state == "failed" for record in run.results)
    ):
        return Exit.BUSY
    if (
        failed
        or any(record.state == "failed" for record in run.results)
        or any(variant.state == "failed" for variant in run.variants)
    ):
        return Exit.INCOMPLETE
    if any(record.state == "unmeasured" for record in run.results):
        return Exit.INCONCLUSIVE
    return Exit.PASSED


def _relative(variant: Variant, folder: Path) -> Variant:
    """Name a variant's file as seen from the run's folder, so that the folder can move."""
    if variant.path is None:
        return variant
    return variant.model_copy(update={"path": variant.path.relative_to(folder)})


def _versions() -> Versions:
    try:
        own = version("quant-harness")
    except PackageNotFoundError:
        own = "unknown"
    return Versions(
        harness=own,
        python=platform.python_version(),
        onnxruntime=version("onnxruntime"),
        onnx=version("onnx"),
        numpy=version("numpy"),
    )
