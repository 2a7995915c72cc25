"""``harness run`` as small steps, each given the last one's result: question → variants → measurements → run → files."""

from __future__ import annotations

import os
import platform
import random
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness import __version__, leftovers, paths
from harness.errors import ResultsError
from harness.judge import outcome, rows
from harness.measure import accuracy, pairs, plan
from harness.measure.campaign import Campaign, Work
from harness.measure.journal import Journal
from harness.quantize import build
from harness.records import folder as run_folder
from harness.records import isolation
from harness.records import samples as run_samples
from harness.records.run import DeviceRecord, Run, Versions
from harness.report import formats
from harness.workflow.oldest_runtime import oldest_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.devices.device import Device
    from harness.devices.registry import Registry
    from harness.errors import Exit
    from harness.judge.rows import Table
    from harness.measure.events import Event
    from harness.measure.progress import Progress
    from harness.quantize.model.model import SourceModel
    from harness.quantize.recipe import Variant
    from harness.study.study import Study
    from harness.workflow.preflight import Question


class Watcher(Protocol):
    """Is told how a run goes on; methods are called from several threads."""

    def variant(self, variant: Variant, total: int) -> None:
        """A variant is made, or is not."""

    def plan(self, devices: Sequence[Device], cases: Sequence[plan.Case], rounds: int) -> None:
        """Measuring begins."""

    def event(self, event: Event) -> None:
        """Something came from a device; it is on disk already."""


@dataclass(frozen=True)
class Bench:
    """What a run works with once its folder is there.

    Attributes:
        folder: of the run.
        inputs: the evaluation inputs as files, one for each of the question's dims.
        seed: of the random order.
        oldest_runtime: the oldest version of onnxruntime that the variants are to load in, if it is known.
    """

    question: Question
    folder: Path
    inputs: tuple[plan.Inputs, ...]
    started: datetime
    seed: int
    watcher: Watcher
    oldest_runtime: str | None = None

    def make(self, study: Study | None = None, model: SourceModel | None = None, within: str = "") -> tuple[list[Variant], bool]:
        """Make the variants of the question's recipes, of its own model or another; returns them, and whether that was interrupted.

        Raises:
            ResultsError: if the disk does not take them.
        """
        variants: list[Variant] = []

        def made(variant: Variant) -> None:
            variants.append(variant)
            self.watcher.variant(variant, len(self.question.recipes))

        try:
            build.build(
                study or self.question.study,
                self.folder / run_folder.VARIANTS / within,
                model=model or self.question.model,
                dims=self.question.dims[0],
                recipes=self.question.recipes,
                cache=paths.variants(),
                oldest_runtime=self.oldest_runtime,
                on_event=made,
            )
        except KeyboardInterrupt:
            return variants, True
        return variants, False

    def begin(
        self, devices: Sequence[Device], variants: Sequence[Variant], cases: tuple[plan.Case, ...], units: tuple[pairs.Unit, ...]
    ) -> Run:
        """Say what is going to be measured."""
        question = self.question
        return Run(
            id=f"{question.study.name}/{self.folder.name}",
            started=self.started,
            study=question.study,
            model_sha256=question.model.sha256,
            model_size=question.model.size,
            versions=_versions(),
            seed=self.seed,
            variants=tuple(_relative(variant, self.folder) for variant in variants),
            cases=cases,
            devices=tuple(DeviceRecord(entry=device) for device in devices),
            warnings=question.warnings,
            units=units,
            build=build_url(),
        )

    def work(self, variants: Sequence[Variant], cases: tuple[plan.Case, ...], units: tuple[pairs.Unit, ...]) -> Work:
        """What every device gets."""
        question = self.question
        by_dims = {tuple(values.items()): found for values, found in zip(question.dims, question.references, strict=True)}
        return Work(
            cases=cases,
            units=units,
            variants={variant.name: variant for variant in variants},
            inputs=self.inputs,
            measure=question.study.measure,
            compare=lambda device, case, outputs, differing: by_dims[tuple(case.dims.items())].compare(
                device, case, outputs, differing
            ),
            seed=self.seed,
            run=self.folder.name,
        )

    def measure(
        self, work: Work, devices: Sequence[Device], registry: Registry, so_far: Mapping[str, Progress] | None = None
    ) -> bool:
        """Run a campaign, or go on with one; returns whether it was interrupted."""
        journal = Journal(self.folder / run_folder.JOURNAL)
        try:
            Campaign(work, registry, journal, self.watcher.event).run(devices, so_far)
        except KeyboardInterrupt:
            return True
        finally:
            journal.close()
        return False


@contextmanager
def bench(question: Question, devices: Sequence[Device], results: Path, watcher: Watcher) -> Iterator[Bench]:
    """Make a run's folder, and files that go when the run has ended; a folder that no run.json was written to goes too.

    Raises:
        ResultsError: if the results folder can't be written.
    """
    started = datetime.now(UTC)
    folder = run_folder.create(results, question.study.name, started)
    try:
        with reopen(question, folder, started, random.SystemRandom().getrandbits(32), watcher) as place:
            yield replace(place, oldest_runtime=oldest_runtime(devices, results))
    except BaseException:
        if not (folder / run_folder.RUN).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def reopen(question: Question, folder: Path, started: datetime, seed: int, watcher: Watcher) -> Iterator[Bench]:
    """Work in a folder that is there, with files that go when that ends."""
    with tempfile.TemporaryDirectory(prefix="quant-harness-") as scratch, leftovers.noted(f"temporary files: {scratch}"):
        inputs = tuple(
            accuracy.write_inputs(samples, values, Path(scratch))
            for samples, values in zip(question.evaluation, question.dims, strict=True)
        )
        yield Bench(question, folder, inputs, started, seed, watcher)


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
    with bench(question, devices, results, watcher) as place:
        variants, interrupted = place.make()
        cases = plan.cases(variants, study.measure, question.dims, plan.runtimes(devices))
        units = pairs.units(cases, {variant.name: variant for variant in variants}, study.claim)
        begun = place.begin(devices, variants, cases, units)
        run_folder.save(place.folder, begun)
        if not interrupted:
            watcher.plan(devices, cases, study.measure.rounds)
            interrupted = place.measure(place.work(variants, cases, units), devices, registry)
        return finish(place.folder, begun, interrupted=interrupted)


def own_runtime() -> str:
    """The version of the controller's onnxruntime."""
    return version("onnxruntime")


def build_url() -> str | None:
    """The address of the build that this is part of, as Jenkins, GitLab or GitHub tell it."""
    told = os.environ.get("BUILD_URL") or os.environ.get("CI_JOB_URL")
    if told or not os.environ.get("GITHUB_RUN_ID"):
        return told
    return "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}".format_map(
        {key: os.environ.get(key, "") for key in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")}
    )


def finish(folder: Path, begun: Run, *, interrupted: bool) -> tuple[Path, Run, tuple[Table, ...]]:
    """Put the run together from its journal and write its files; run.json last, for it says that the folder is complete.

    Raises:
        ResultsError: if a file can't be written.
    """
    whole = run_folder.gather(folder, begun)
    ended = whole.model_copy(update={"state": "interrupted" if interrupted else "complete", "finished": datetime.now(UTC)})
    quantiles = run_samples.quantiles(folder / run_folder.SAMPLES)

    def shown(run: Run) -> tuple[tuple[Table, ...], dict[Path, bytes]]:
        tables = rows.tables(run, quantiles)
        return tables, formats.files(folder, run, tables)

    ended, (tables, files) = isolation.isolated(ended, shown)
    try:
        for path, content in files.items():
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
    return folder, found, rows.tables(found, run_samples.quantiles(folder / run_folder.SAMPLES))


def verdict(run: Run) -> Exit:
    """The exit code of a run that was no gate."""
    return outcome.code(run, ())


def _relative(variant: Variant, folder: Path) -> Variant:
    """Name a variant's file as seen from the run's folder, so that the folder can move."""
    if variant.path is None:
        return variant
    return variant.model_copy(update={"path": variant.path.relative_to(folder)})


def _versions() -> Versions:
    return Versions(
        harness=__version__,
        python=platform.python_version(),
        onnxruntime=version("onnxruntime"),
        onnx=version("onnx"),
        numpy=version("numpy"),
    )
