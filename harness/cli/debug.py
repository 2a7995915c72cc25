"""harness debug."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import command as shared
from harness.cli import streams
from harness.cli.study_options import StudyOptions, duration
from harness.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from harness.debug.evaluation import Score
    from harness.debug.exclusion import Exclusion
    from harness.debug.findings import Compared, Diagnosis

SHOWN = 15  # rows of a table; --json has all
NAMED = 4  # nodes in a cell
FALLS = 5  # tensors at which most is lost
REASON = 100  # characters


@shared.command
def debug(
    *,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant", metavar="NAME", help="The variant to explain, or a glob; of several variants, the worst is explained."
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Number of evaluation samples for tensors and trials.")] = 16,
    max_time: Annotated[
        str, typer.Option("--max-time", metavar="TIME", help="Time limit of the scan and the proposals, such as 10m.")
    ] = "2m",
    model: StudyOptions,
    as_json: shared.Json = False,
) -> Exit:
    """Show where a variant loses accuracy: tensors, weights and nodes, and the nodes to exclude.

    Without --variant, it explains the variant whose outputs are farthest from fp32's. Ctrl-C prints what was found so far.

    Exit code: 0 explained, 2 wrong usage or input, or a variant that can't exist, 3 a variant could not be made or run.
    """
    from harness.debug.diagnosis import diagnose
    from harness.debug.findings import Diagnosis

    study = model.study()
    limit = duration(max_time, "--max-time")
    found, code, put_back = Diagnosis(), Exit.PASSED, streams.keep()
    try:
        diagnose(
            study, found, globs=variant or [], samples=samples, max_time=limit, say=lambda words: typer.echo(words, err=True)
        )
    except KeyboardInterrupt:
        put_back()
        code = Exit.INTERRUPTED
        found.notes.append("interrupted: this is what was found so far")
    if any(each.state == "failed" for each in found.compared) and code == Exit.PASSED:
        code = Exit.INCOMPLETE
    if as_json:
        shared.say_json({**found.as_json(), "exit": int(code)})
    else:
        _print(found)
    return code


def _print(found: Diagnosis) -> None:
    from harness.cli.grid import console
    from harness.text import sanitize

    out = console()
    if found.compared:
        count = "" if found.compared_samples == found.evaluation_samples else f"the first {found.compared_samples} of "
        every = found.evaluation_samples
        out.print(
            f"outputs of the variants, compared with fp32 over {count}{every} sample{'s' if every > 1 else ''}", markup=False
        )
        _compared(out, found.compared)
    if found.chosen is not None:
        out.print(f"{found.chosen.variant.name}, over {found.samples} sample{'s' if found.samples > 1 else ''}:", markup=False)
        _inside(out, found)
        _scan(out, found)
        _exclusions(out, found.chosen, found.exclusions)
    for note in found.notes:
        out.print(f"! {sanitize(note)}", markup=False, soft_wrap=True)


def _compared(out: Console, compared: Sequence[Compared]) -> None:
    from harness.cli.grid import grid
    from harness.report.numbers import size

    titles, _ = _figures(compared[0].score, compared)
    rows = [
        [
            each.variant.name,
            each.state,
            size(each.variant.size),
            *_figures(each.score, compared)[1],
            "; ".join(filter(None, [each.reason, *(each.score.notes if each.score else ()), *each.variant.notes])),
        ]
        for each in compared
    ]
    out.print(grid(["variant", "state", "size", *titles, "notes"], rows))


def _figures(score: Score | None, compared: Sequence[Compared | Exclusion]) -> tuple[list[str], list[str]]:
    """The titles and cells of the figures that at least one of the scores has."""
    from harness.report.numbers import UNKNOWN, number, percent

    scores = [each.score for each in compared if each.score is not None]
    columns = [
        ("SQNR", decibels(score.fidelity.sqnr_db) if score else UNKNOWN),
        ("worst part", (score.fidelity.broken or decibels(score.fidelity.worst_db)) if score else UNKNOWN),
    ]
    if any(each.fidelity.top1_agreement is not None for each in scores):
        columns.append(("as fp32", percent(score.fidelity.top1_agreement if score else None)))
    if any(each.fidelity.top1_accuracy is not None for each in scores):
        columns.append(("top-1", percent(score.fidelity.top1_accuracy if score else None)))
    if any(each.fidelity.kl_divergence is not None for each in scores):
        columns.append(("KL", nats(score.fidelity.kl_divergence if score else None)))
    if any(each.equal is not None for each in scores):
        columns.append(("equal integers", percent(score.equal if score else None)))
    names = dict.fromkeys(name for each in scores for name in each.metrics)
    columns += [(name, number(score.metrics.get(name) if score else None, 4)) for name in names]
    titles, cells = zip(*columns, strict=True)
    return list(titles), list(cells)


def _inside(out: Console, found: Diagnosis) -> None:
    from harness.cli.grid import grid
    from harness.text import sanitize

    if found.tensors:
        out.print("tensors, the lowest SQNR first", markup=False)
        rows = [
            [
                each.name,
                each.node,
                each.op_type,
                decibels(each.sqnr_db),
                f"{each.dead} constant" if each.dead else "" if each.worst is None else f"{decibels(each.worst_db)} {each.worst}",
                decibels(each.own_db),
                decibels(each.lost_db),
            ]
            for each in found.tensors[:SHOWN]
        ]
        out.print(grid(["tensor", "node", "op type", "SQNR", "worst slice", "rounding alone", "lost here"], rows))
        _more(out, len(found.tensors), f"; {found.exact} are exactly fp32's" if found.exact else "")
        falls = sorted((each for each in found.tensors if (each.lost_db or 0) > 0), key=lambda each: -(each.lost_db or 0))[:FALLS]
        if falls:
            words = ", ".join(f"{each.node or each.name} ({each.op_type}) {decibels(each.lost_db)}" for each in falls)
            out.print(f"  the largest losses are at {sanitize(words)}\n", markup=False, soft_wrap=True)
    if found.weights:
        out.print("weights, the lowest SQNR first", markup=False)
        rows = [
            [each.name, each.node, each.op_type, decibels(each.sqnr_db), decibels(each.worst_db)]
            for each in found.weights[:SHOWN]
        ]
        out.print(grid(["weight", "node", "op type", "SQNR", "worst channel"], rows))
        _more(out, len(found.weights))


def _scan(out: Console, found: Diagnosis) -> None:
    from harness.cli.grid import grid

    floats = found.chosen is None or found.chosen.score is None or found.chosen.score.fidelity.sqnr_db is not None
    titles = ["SQNR", "worst part"] if floats else ["equal outputs"]
    for heading, of in (("op types", found.op_types), ("nodes", found.nodes)):
        telling = [each for each in of if each.merit < math.inf]
        if telling:
            out.print(f"{heading}: the outputs if only this one is quantized", markup=False)
            rows = [
                [
                    each.name,
                    each.op_type if heading == "nodes" else str(each.nodes),
                    *(
                        [decibels(each.sqnr_db), each.broken or decibels(each.worst_db)]
                        if floats
                        else [merit(each.merit, floats=floats)]
                    ),
                    (each.reason or "; ".join(each.notes))[:REASON],
                ]
                for each in telling[:SHOWN]
            ]
            out.print(grid([heading[:-1], "op type" if heading == "nodes" else "nodes", *titles, ""], rows))
        harmless = len(of) - len(telling)
        _more(
            out,
            len(telling),
            f"; {harmless} change{'s' if harmless == 1 else ''} nothing when quantized alone" if harmless else "",
        )


def _exclusions(out: Console, chosen: Compared, exclusions: Sequence[Exclusion]) -> None:
    from harness.cli.grid import grid
    from harness.report.numbers import size

    if not exclusions:
        return
    out.print("nodes to exclude: each row also excludes the nodes of the rows above it", markup=False)
    every: list[Compared | Exclusion] = [chosen, *exclusions]
    titles, first = _figures(chosen.score, every)
    rows = [[size(chosen.variant.size), *first, "(nothing)"]]
    rows += [[size(each.size), *_figures(each.score, every)[1], several(each.added)] for each in exclusions]
    out.print(grid(["size", *titles, "excluded"], rows))
    out.print(
        "paste this into the study; exclude_nodes lists the steps in order, so you can cut it after any of them:\n",
        markup=False,
    )
    # As it is: a terminal's width must not break what is to be pasted.
    typer.echo(exclusions[-1].toml + "\n")


def _more(out: Console, count: int, also: str = "") -> None:
    if count > SHOWN or also:
        hidden = f"{count - SHOWN} more with --json" if count > SHOWN else ""
        out.print(f"  {hidden}{also if hidden else also.removeprefix('; ')}", markup=False)


def decibels(value: float | None) -> str:
    """A ratio in dB as text; infinity is 'exact'."""
    if value is None or math.isnan(value):
        return "–"
    return f"{round(value, 1) + 0.0:.1f} dB" if math.isfinite(value) else "exact" if value > 0 else "not finite"


def nats(value: float | None) -> str:
    """A divergence; it is infinite where the variant rules out a class that fp32 does not."""
    from harness.report.numbers import number

    return "infinite" if value is not None and math.isinf(value) else number(value)


def several(names: Sequence[str]) -> str:
    """Name a few, and count the others."""
    return ", ".join(names) if len(names) <= NAMED else f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def merit(value: float, *, floats: bool) -> str:
    """The figure that a scan sorts by, as text: dB, or a share of equal values."""
    return decibels(value) if floats or not math.isfinite(value) else f"{100 * value:.2f} %"
