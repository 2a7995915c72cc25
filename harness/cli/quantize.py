"""harness quantize."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import command as shared
from harness.cli.study_options import ModelOptions
from harness.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.quantize.recipe import Recipe
    from harness.study.study import Study


@shared.command
def quantize(
    *,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="The folder to write the variants to; not needed with --plan."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be built, and what can't be built and why.")] = False,
    variant: shared.Variants = None,
    source: ModelOptions,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device", metavar="NAME|@TAG", help="With --plan: ask these devices instead of the study's; may be repeated."
        ),
    ] = None,
    platform: shared.Platforms = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Make the variants of a model without measuring them; with --plan, only show what would be built.

    A plan needs no calibration. It lists which variants would be built, which ones are duplicates, which ones can't exist and why, and
    how each device's onnxruntime and processor run them. --platform x86_64,avx512_vnni,1.31.1 describes a device that you don't have.

    Exit code: 0 every variant that can exist was made, 2 wrong usage or input, 3 a tool refused one or, with --plan, a device can't be
    reached.
    """
    from harness import paths
    from harness.cli import known as registered
    from harness.cli.grid import console, grid
    from harness.devices import registry as registries
    from harness.errors import UsageError
    from harness.quantize import build, matrix
    from harness.quantize.data.dims import resolve_dims
    from harness.quantize.data_review import review
    from harness.quantize.model import random_nodes
    from harness.report.numbers import size
    from harness.text import sanitize
    from harness.workflow import oldest_runtime

    study = source.study()
    recipes = matrix.select(matrix.plan(study), variant or [])
    if plan:
        # Platforms that are described take the place of the study's devices.
        asked = device or ([] if platform else study.devices.select)
        return _plan(study, recipes, platform or [], asked, registry, as_json=as_json)
    if device or platform:
        message = "--device and --platform need --plan, because making variants needs no device"
        raise UsageError(message)
    if out is None:
        message = "give a folder for the variants: -o DIR; or --plan to see what would be built"
        raise UsageError(message)
    model = build.open_source(study)
    drawn = random_nodes.sentence(random_nodes.find(model.proto))
    warnings = (*review(study, model, resolve_dims(model, study.model.dims)[0], recipes), *([drawn] if drawn else []))
    known = registries.load(registry)
    registered.warn(known, [])
    runtime = oldest_runtime.of_study(study.devices.select, known, shared.RESULTS)
    made = build.build(study, out, model=model, recipes=recipes, cache=paths.variants(), oldest_runtime=runtime)
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
            typer.echo(sanitize(f"the preparation failed with {failure}"))
        for warning in warnings:
            typer.echo(f"  {warning}")
        typer.echo(f"variants: {out}")
    return Exit.INCOMPLETE if any(found.state == "failed" for found in made) else Exit.PASSED


def _plan(
    study: Study,
    recipes: Sequence[Recipe],
    described: list[str],
    devices: list[str],
    registry: Path | None,
    *,
    as_json: bool,
) -> Exit:
    """Print the plan of a build."""
    from harness.cli import planned
    from harness.cli.grid import console
    from harness.cli.platforms import platforms_of
    from harness.quantize.model.model import read_model
    from harness.quantize.planning.planner import plan_build

    platforms, silent = platforms_of(described, devices, registry)
    told = plan_build(study, recipes, read_model(study.model.path), platforms)
    if as_json:
        shared.say_json(told.model_dump(mode="json") | {"unreached": silent})
    else:
        planned.show(told, console())
        for name, reason in silent.items():
            shared.say_error(
                f"{name}: could not be asked, so no rule was checked for it: {reason}", Exit.INCOMPLETE, as_json=False
            )
    return Exit.INCOMPLETE if silent else Exit.PASSED
