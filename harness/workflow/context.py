"""The context of a run: its folder, its inputs as files, and the steps that all kinds of runs share."""

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
from typing import TYPE_CHECKING

from harness import __version__, leftovers, paths
from harness.measure import accuracy, pairs, plan
from harness.measure.campaign import Campaign
from harness.measure.journal import Journal
from harness.measure.work import Work
from harness.quantize import build
from harness.records.folder import JOURNAL, RUN, create_folder
from harness.records.run import DeviceRecord, Run, Versions
from harness.records.variant_files import folder_of
from harness.workflow.oldest_runtime import oldest_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.devices.device import Device
    from harness.measure.progress import Progress
    from harness.quantize.model.model import SourceModel
    from harness.quantize.recipe import Variant
    from harness.study.study import Study
    from harness.workflow.preflight import Preflight
    from harness.workflow.watcher import Watcher


@dataclass(frozen=True)
class RunContext:
    """The context of a run whose folder exists.

    Attributes:
        folder: of the run.
        inputs: the evaluation inputs as files, one for each of the study's dims.
        seed: of the random order.
        oldest_runtime: the oldest version of onnxruntime that the variants are to load in, if it is known.
    """

    preflight: Preflight
    folder: Path
    inputs: tuple[plan.Inputs, ...]
    started: datetime
    seed: int
    watcher: Watcher
    oldest_runtime: str | None = None

    def make(
        self, study: Study | None = None, model: SourceModel | None = None, *, of_baseline: bool = False
    ) -> tuple[list[Variant], bool]:
        """Make the variants of the study's recipes, of its own model or another; returns them, and whether that was interrupted.

        Raises:
            ResultsError: if the disk does not take them.
        """
        variants: list[Variant] = []

        def made(variant: Variant) -> None:
            variants.append(variant)
            self.watcher.variant(variant, len(self.preflight.recipes))

        try:
            build.build(
                study or self.preflight.study,
                folder_of(self.folder, baseline=of_baseline),
                model=model or self.preflight.model,
                dims=self.preflight.dims[0],
                recipes=self.preflight.recipes,
                cache=paths.variants(),
                oldest_runtime=self.oldest_runtime,
                on_event=made,
            )
        except KeyboardInterrupt:
            return variants, True
        return variants, False

    def begin(
        self, devices: Sequence[Device], variants: Sequence[Variant], cases: tuple[plan.Case, ...], units: tuple[pairs.Pair, ...]
    ) -> Run:
        """Announce the cases that will be measured."""
        preflight = self.preflight
        return Run(
            id=f"{preflight.study.name}/{self.folder.name}",
            started=self.started,
            study=preflight.study,
            model_sha256=preflight.model.sha256,
            model_size=preflight.model.size,
            versions=_versions(),
            seed=self.seed,
            variants=tuple(variant.model_copy(update={"path": None}) for variant in variants),
            cases=cases,
            devices=tuple(DeviceRecord(entry=device) for device in devices),
            warnings=preflight.warnings,
            units=units,
            build=build_url(),
        )

    def work(self, variants: Sequence[Variant], cases: tuple[plan.Case, ...], units: tuple[pairs.Pair, ...]) -> Work:
        """What every device gets."""
        preflight = self.preflight
        by_dims = {tuple(values.items()): found for values, found in zip(preflight.dims, preflight.references, strict=True)}
        return Work(
            cases=cases,
            units=units,
            variants={variant.name: variant for variant in variants},
            inputs=self.inputs,
            measure=preflight.study.measure,
            compare=lambda device, case, outputs, differing: by_dims[tuple(case.dims.items())].compare(
                device, case, outputs, differing
            ),
            seed=self.seed,
            run=self.folder.name,
        )

    def measure(self, work: Work, devices: Sequence[Device], so_far: Mapping[str, Progress] | None = None) -> bool:
        """Run or continue a campaign; returns whether it was interrupted."""
        journal = Journal(self.folder / JOURNAL)
        try:
            Campaign(work, journal, self.watcher.event).run(devices, so_far)
        except KeyboardInterrupt:
            return True
        finally:
            journal.close()
        return False


@contextmanager
def new_run(preflight: Preflight, devices: Sequence[Device], results: Path, watcher: Watcher) -> Iterator[RunContext]:
    """Create a run's folder and temporary files, which are removed at the end; a folder without run.json is removed, too.

    Raises:
        ResultsError: if the results folder can't be written.
    """
    started = datetime.now(UTC)
    folder = create_folder(results, preflight.study.name, started)
    try:
        with reopen(preflight, folder, started, random.SystemRandom().getrandbits(32), watcher) as context:
            yield replace(context, oldest_runtime=oldest_runtime(devices, results))
    except BaseException:
        if not (folder / RUN).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def reopen(preflight: Preflight, folder: Path, started: datetime, seed: int, watcher: Watcher) -> Iterator[RunContext]:
    """Continue in an existing folder, with temporary files that are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="quant-harness-") as scratch, leftovers.noted(f"temporary files: {scratch}"):
        inputs = tuple(
            accuracy.write_inputs(samples, values, Path(scratch))
            for samples, values in zip(preflight.evaluation, preflight.dims, strict=True)
        )
        yield RunContext(preflight, folder, inputs, started, seed, watcher)


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


def _versions() -> Versions:
    return Versions(
        harness=__version__,
        python=platform.python_version(),
        onnxruntime=version("onnxruntime"),
        onnx=version("onnx"),
        numpy=version("numpy"),
    )
