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
            help="Go on with a run that was cut short or whose time was up, from what it and its devices kept.",
        ),
    ] = None,
    registry: shared.Registry = None,
    results: shared.Results = shared.RESULTS,
    as_json: shared.Json = False,
) -> Exit:
    """Make the variants of a model, measure them on the devices, and compare them.

    Without an argument: the shipped digits study on this machine. Progress goes to stderr, the tables to stdout.

    A device measures on when the connection to it breaks; it is looked for again, and --resume RUN goes on later, even after a crash here.

    Where the time is up before everything is known as closely as asked, the tables say how precise it got, and --resume RUN measures on.

    Exit code: 0 all measured, 2 wrong usage or input, 3 a device or case failed, 4 the time was up before everything was known as closely
    as asked, 75 a device is busy, 130 interrupted.
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
            message = f"{', '.join(said)}: not with --resume: the run goes on as it was begun"
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
