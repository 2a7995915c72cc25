"""harness show."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import command as shared
from harness.errors import Exit, UsageError
from harness.report.formats import FORMATS


@shared.showing
def show(
    run: shared.RunName,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")] = "table",
    ops: Annotated[
        bool, typer.Option("--ops", help="Show which operators take the time, by onnxruntime's profiler; with --json as a list.")
    ] = False,
    device: shared.Devices = None,
    variant: shared.Variants = None,
    results: shared.Results = shared.RESULTS,
    as_json: shared.Json = False,
) -> Exit:
    """Show the tables of a run.

    Exit code: 0 shown, 2 wrong usage or input.
    """
    import json

    from harness.report import formats, operators
    from harness.study import toml_file
    from harness.workflow.results import read_run

    name = "json" if as_json else form
    if name not in FORMATS:
        message = f"--format: there is no format '{name}'; {toml_file.nearest(name, list(FORMATS))}"
        raise UsageError(message)
    folder, judgement = read_run(run, results)
    chosen = judgement.select(device or [], variant or [])
    if ops:
        said = json.dumps(operators.content(chosen), indent=1) + "\n" if as_json else operators.render(chosen).decode()
        typer.echo(said, nl=False)
        return Exit.PASSED
    typer.echo(formats.render(name, chosen).decode(), nl=False)
    if judgement.run.state == "running":
        typer.echo(
            f"harness: {folder}: the run has not ended, or was killed; this is what it measured so far. To continue it: harness run --resume",
            err=True,
        )
    return Exit.PASSED
