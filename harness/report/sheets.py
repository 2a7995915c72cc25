"""Sheets: titled grids with lines below, for gates and claims."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.report import claims, gate, notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.claims import ClaimVerdict
    from harness.judge.judgement import Judgement
    from harness.judge.table import Table
    from harness.records.run import Run


PAIRS = "to see every pair: harness claims"


@dataclass(frozen=True)
class Sheet:
    """A grid for a terminal, Markdown or a page.

    Attributes:
        styles: for each row: good, bad, dim or None.
        lines: what must be known beside it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    styles: tuple[str | None, ...]
    lines: tuple[str, ...]


def sheets(judgement: Judgement, *, brief: bool = False) -> tuple[Sheet, ...]:
    """The sheets of a run: a gate's for each device, or one for all claims; brief leaves out the claims' single pairs."""
    if judgement.is_gate:
        return tuple(_gate(judgement.run, table) for table in judgement.tables)
    found = claims_sheets(judgement.claims)
    return tuple(replace(sheet, rows=(), styles=(), lines=(*sheet.lines, PAIRS)) for sheet in found) if brief else found


def claims_sheets(found: Sequence[ClaimVerdict]) -> tuple[Sheet, ...]:
    """The sheet of a study's claims; none without claims."""
    if not found:
        return ()
    rows, styles = claims.rows(found)
    return (Sheet("claims", claims.TITLES, rows, styles, tuple(claims.lines(found))),)


def _head(table: Table) -> list[str]:
    """The first lines of a device's sheet: why results are missing."""
    return [*([f"✗ {table.trouble}"] if table.trouble else []), *([table.shortfall.sentence] if table.shortfall else [])]


def _gate(run: Run, table: Table) -> Sheet:
    ranked = gate.ranked(table.checks)
    return Sheet(
        # Rounds mean little here: each pair says how many processes it took.
        notes.device(table),
        gate.TITLES,
        tuple(tuple(gate.cells(check)) for check in ranked),
        tuple(gate.STYLES.get(check.verdict) for check in ranked),
        (*_head(table), *gate.notes(run, table), *table.remarks),
    )
