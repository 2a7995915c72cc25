"""harness compare."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import command as shared
from harness.errors import Exit, UsageError


@shared.showing
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Folders, unique prefixes of names, or 'latest'.")],
    force: Annotated[
        bool, typer.Option("--force", help="Compare the runs even if their contexts differ too much; the output says so.")
    ] = False,
    results: shared.Results = shared.RESULTS,
    as_json: shared.Json = False,
) -> Exit:
    """Show finished runs side by side, compared with the first one.

    Exit code: 0 compared, 2 wrong usage or input, or the contexts of the runs differ too much.
    """
    from harness.judge import comparison
    from harness.report import table
    from harness.report.comparison import content, sheets
    from harness.workflow.results import read_run

    if len(runs) < 2:  # noqa: PLR2004 - one alone is 'harness show'
        message = "harness compare needs at least two runs; to show one: harness show RUN"
        raise UsageError(message)
    judgements = [read_run(name, results)[1] for name in runs]
    found = comparison.compare(judgements, force=force)
    only = [each.run for each in judgements]
    if as_json:
        shared.say_json(content(only, found))
    else:
        for sheet in sheets(only, found):
            typer.echo(table.sheet(sheet).decode(), nl=False)
    return Exit.PASSED
