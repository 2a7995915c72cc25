"""``harness run`` as small steps, each given the last one's result: preflight → variants → measurements → run → files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measure import pairs, plan
from harness.records.folder import save_run
from harness.workflow.context import new_run
from harness.workflow.results import finish_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.devices.device import Device
    from harness.judge.judgement import Judgement
    from harness.workflow.preflight import Preflight
    from harness.workflow.watcher import Watcher


def run_study(preflight: Preflight, devices: Sequence[Device], results: Path, watcher: Watcher) -> tuple[Path, Judgement]:
    """Make the variants, measure them on all devices, and write the run's folder.

    Returns:
        The folder, and the judgement of the run.

    Raises:
        KeyboardInterrupt: never; a run that was interrupted says so in its state.
        ResultsError: if the results folder can't be written.
    """
    study = preflight.study
    with new_run(preflight, devices, results, watcher) as context:
        variants, interrupted = context.make()
        cases = plan.cases(variants, study.measure, preflight.dims, plan.runtimes(devices))
        units = pairs.units(cases, {variant.name: variant for variant in variants}, study.claim)
        begun = context.begin(devices, variants, cases, units)
        save_run(context.folder, begun)
        if not interrupted:
            watcher.plan(devices, cases, study.measure.rounds)
            interrupted = context.measure(context.work(variants, cases, units), devices)
        return finish_run(context.folder, begun, interrupted=interrupted)
