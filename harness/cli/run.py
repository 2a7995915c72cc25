"""harness run."""

from __future__ import annotations

import typer

from harness.cli import command as shared
from harness.errors import Exit


@shared.command
def run(
    target: shared.Target = None,
    device: shared.Devices = None,
    variant: shared.Variants = None,
    dim: shared.Dims = None,
    calibration: shared.Calibration = None,
    evaluation: shared.Evaluation = None,
    variants: shared.Methods = None,
    rounds: shared.Rounds = None,
    max_time: shared.MaxTime = None,
    registry: shared.Registry = None,
    results: shared.Results = shared.RESULTS,
    as_json: shared.Json = False,
) -> Exit:
    """Make the variants of a model, measure them on the devices, and compare them.

    Without an argument: the shipped digits study on this machine. Progress goes to stderr, the tables to stdout.

    Exit code: 0 all measured, 2 wrong usage or input, 3 a device or case failed, 4 the time was up before all was measured.
    """
    from harness import question, workflow
    from harness.cli import progress
    from harness.cli import target as targets
    from harness.devices import registry as registries
    from harness.report import formats

    study = targets.study_of(target, dims=dim, calibration=calibration, evaluation=evaluation, methods=variants)
    study = targets.limited(study, rounds=rounds, max_time=max_time)
    known = registries.load(registry)
    devices = known.select(device or study.devices.select)
    asked = question.ask(study, variant or [])
    with progress.watcher() as watcher:
        folder, finished, tables = workflow.run(asked, devices, known, results, watcher)
    typer.echo(formats.render("json" if as_json else "table", finished, tables).decode(), nl=False)
    typer.echo(f"\nrun {finished.id}: {folder}", err=as_json)
    return workflow.verdict(finished)
