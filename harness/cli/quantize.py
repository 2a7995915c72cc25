"""harness quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import command as shared
from harness.errors import Exit


@shared.command
def quantize(
    out: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the variants go.")],
    target: shared.Target = None,
    variant: shared.Variants = None,
    dim: shared.Dims = None,
    calibration: shared.Calibration = None,
    variants: shared.Methods = None,
    as_json: shared.Json = False,
) -> Exit:
    """Make the variants of a model, and measure nothing.

    Exit code: 0 all made that can exist, 2 wrong usage or input, 3 a tool refused one.
    """
    from harness import oldest, places
    from harness.cli import target as targets
    from harness.cli.grid import console, grid
    from harness.devices import registry as registries
    from harness.quantize import build, matrix
    from harness.quantize.dims import resolve_dims
    from harness.quantize.review import review
    from harness.report.columns import size
    from harness.words import plain

    study = targets.study_of(target, dims=dim, calibration=calibration, evaluation=None, methods=variants)
    recipes = matrix.select(matrix.plan(study), variant or [])
    runtime = oldest.of_study(study.devices.select, registries.load(), shared.RESULTS)
    model = build.open_source(study)
    warnings = review(study, model, resolve_dims(model, study.model.dims)[0], recipes)
    made = build.build(study, out, model=model, recipes=recipes, cache=places.variants(), oldest_runtime=runtime)
    if as_json:
        shared.say_json(
            {"folder": str(out), "variants": [found.model_dump(mode="json") for found in made], "warnings": list(warnings)}
        )
    else:
        rows = [
            [
                found.name,
                found.state,
                size(found.size),
                (found.sha256 or "")[:12],
                found.preparation.rung if found.preparation else "",
                "; ".join(filter(None, [found.reason, *found.notes])),
            ]
            for found in made
        ]
        console().print(grid(["variant", "state", "size", "sha256", "prepared by", "notes"], rows))
        for failure in next((found.preparation.failures for found in made if found.preparation), ()):
            typer.echo(plain(f"the preparation failed with {failure}"))
        for warning in warnings:
            typer.echo(f"  {warning}")
        typer.echo(f"variants: {out}")
    return Exit.INCOMPLETE if any(found.state == "failed" for found in made) else Exit.PASSED
