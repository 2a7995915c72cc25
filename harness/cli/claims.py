"""harness claims."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import command as shared
from harness.errors import Exit, UsageError


@shared.command
def claims(
    run: shared.RunName = "latest",
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="STUDY", help="Judge the claims of this study, instead of those in the run's own study."),
    ] = None,
    results: shared.Results = shared.RESULTS,
    as_json: shared.Json = False,
) -> Exit:
    """Judge the claims of a study on a run: supported, refuted, open, or not judged.

    Exit code: 0 no claim is refuted or open, 1 a claim is refuted, 2 wrong usage or input, 3 no claim could be judged, 4 a claim is open.
    """
    from pathlib import Path

    from harness.judge.claims import EXITS, together
    from harness.report import sheets, table
    from harness.report.claims import content
    from harness.study import study as studies
    from harness.workflow.results import read_run

    folder, judgement = read_run(run, results)
    if study is not None:
        judgement = judgement.with_claims(studies.load(Path(study)).claim)
    if not judgement.run.study.claim:
        message = (
            f"{folder}: the study of this run has no [[claim]]; add one, or judge the claims of another study: --study STUDY"
        )
        raise UsageError(message)
    if as_json:
        shared.say_json({"run": judgement.run.id, "claims": content(judgement.claims)})
    else:
        for sheet in sheets.claims_sheets(judgement.claims):
            typer.echo(table.sheet(sheet).decode(), nl=False)
    return EXITS[together([claim.verdict for claim in judgement.claims])]
