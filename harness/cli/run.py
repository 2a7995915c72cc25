"""harness run."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import command as shared
from harness.cli.study_options import LimitOptions, StudyOptions
from harness.errors import Exit, UsageError


@shared.command
def run(
    *,
    device: shared.Devices = None,
    variant: shared.Variants = None,
    model: StudyOptions,
    limits: LimitOptions,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Continue a run that was interrupted or reached its time limit.",
        ),
    ] = None,
    registry: shared.Registry = None,
    results: shared.Results = shared.RESULTS,
    as_json: shared.Json = False,
) -> Exit:
    """Make the variants of a model, measure them on the devices, and compare them.

    Without an argument, it measures the included digits study on this machine. Progress goes to stderr, the tables to stdout.

    If the connection to a device breaks, the device continues to measure, and the harness reconnects. --resume RUN continues a run later,
    even after this machine crashed, and also a run that reached its time limit before its figures were as precise as asked.

    Exit code: 0 everything was measured, 2 wrong usage or input, 3 a device or case failed, 4 the time limit was reached before the
    figures were as precise as asked, 75 a device is busy, 130 interrupted.
    """
    from harness.cli import progress
    from harness.cli.known import selected
    from harness.devices import registry as registries
    from harness.report import formats
    from harness.workflow.preflight import check_inputs
    from harness.workflow.resume import resume_run
    from harness.workflow.run import run_study

    if resume is not None:
        given = {"STUDY": model.target, "--variant": variant, **model.given, "--rounds": limits.rounds}
        if said := [name for name, value in given.items() if value]:
            message = f"{', '.join(said)}: can't be combined with --resume, which continues the run with its own settings"
            raise UsageError(message)
        with progress.watcher() as watcher:
            folder, judgement = resume_run(
                resume,
                device or [],
                registries.load(registry),
                results,
                watcher,
                **limits.seconds,
            )
    else:
        study = limits.apply(model.study())
        _, devices = selected(registry, device or study.devices.select)
        preflight = check_inputs(study, variant or [])
        with progress.watcher() as watcher:
            folder, judgement = run_study(preflight, devices, results, watcher)
    typer.echo(formats.render("json" if as_json else "table", judgement).decode(), nl=False)
    typer.echo(f"\nrun {judgement.run.id}: {folder}", err=as_json)
    return judgement.exit
