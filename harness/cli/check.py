"""harness check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import command as shared
from harness.cli.study_options import LimitOptions, StudyOptions
from harness.errors import Exit

BASELINES = Path("baselines")
Baselines = Annotated[
    Path, typer.Option("--baselines", metavar="DIR", envvar="HARNESS_BASELINES", help="Where saved baselines are kept.")
]


@shared.command
def check(
    *,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline", metavar="B", help="A run, a saved baseline, a model file, or onnxruntime==VERSION.", show_default=False
        ),
    ],
    device: shared.Devices = None,
    variant: shared.Variants = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="A metric that must not get worse, such as latency.median; may be repeated. [default: the study's]",
        ),
    ] = None,
    max_regression: Annotated[
        float | None,
        typer.Option(
            "--max-regression",
            metavar="SHARE",
            help="By how much a metric may get worse; 0.05 is 5 %. [default: the study's, or 0.05]",
        ),
    ] = None,
    max_drop_db: Annotated[
        float | None,
        typer.Option("--max-drop-db", metavar="DB", help="By how many decibels sqnr may fall. [default: the study's, or 1]"),
    ] = None,
    check_outputs: Annotated[
        bool | None,
        typer.Option(
            "--check-outputs/--no-check-outputs",
            help="Whether broken outputs fail the gate, whatever the metric is. [default: the study's, or yes]",
        ),
    ] = None,
    model: StudyOptions,
    limits: LimitOptions,
    registry: shared.Registry = None,
    baselines: Baselines = BASELINES,
    results: shared.Results = shared.RESULTS,
    as_json: shared.Json = False,
) -> Exit:
    """Fail if a model got slower (or larger, or less accurate) than its baseline, or if its outputs are broken.

    The baseline's model files are measured again, side by side with the candidate's. The exit code is 1 only for a regression that two
    independent measurements confirm, or for broken outputs. A bare model is used as it is, quantized or not, unless --variants says which
    variants to make. A study makes its variants, and each is compared with the baseline's variant of the same name.

    Whatever the metric is, a candidate fails if its outputs have constant parts, or values that are not finite, where the baseline's
    outputs have none. --metric outputs makes only this check.

    Exit code: 0 passed, 1 regressed, 2 wrong usage or input, 3 something was not measured, 4 not measured precisely enough, 75 a device is
    busy, 130 interrupted.
    """
    from harness.cli import progress
    from harness.cli.known import selected
    from harness.report import formats
    from harness.workflow.baselines import resolve
    from harness.workflow.check import run_check, with_gate
    from harness.workflow.preflight import check_inputs

    # A bare model is taken as it is, quantized or not.
    study = model.study(methods="given")
    study = with_gate(
        limits.apply(study),
        metric or [],
        max_regression=max_regression,
        max_drop_db=max_drop_db,
        check_outputs=check_outputs,
    )
    known, devices = selected(registry, device or study.devices.select)
    source = resolve(baseline, results, baselines, study)
    preflight = check_inputs(study, variant or [])
    with progress.watcher() as watcher:
        folder, judgement = run_check(preflight, source, devices, known, results, watcher, variant or [])
    typer.echo(formats.render("json" if as_json else "table", judgement).decode(), nl=False)
    typer.echo(f"run {judgement.run.id}: {folder}", err=as_json)
    return judgement.exit
