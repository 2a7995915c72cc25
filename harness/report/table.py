"""Render tables for a terminal, or at full width for a pipe."""

from __future__ import annotations

import io
import shutil
import sys
from typing import TYPE_CHECKING

from rich import box, markup
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid

from harness.report import columns, gate, notes, overview, sheets
from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.judgement import Judgement
    from harness.report.sheets import Sheet

PIPE_WIDTH = 220
# What rich puts between two columns of this kind of table.
PADDING = 3
STYLES = {"good": "green", "bad": "bold red", "dim": "dim"}


def render(judgement: Judgement) -> bytes:
    """Draw one table for each device, what must be known beside it, and an overview of several devices."""
    console = _console()
    if not judgement.is_gate:
        _comparison(console, judgement)
    for sheet in sheets.sheets(judgement, brief=True):
        draw(console, sheet)
    for warning in judgement.run.warnings:
        console.print(f"[yellow]! {escape(warning)}[/]", soft_wrap=True)
    if judgement.is_gate:
        console.print(f"\n[bold]{escape(gate.verdict(judgement))}[/]", soft_wrap=True)
    return _written(console)


def _console() -> Console:
    """A console that keeps what is drawn."""
    terminal = sys.stdout.isatty()
    return Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=shutil.get_terminal_size().columns if terminal else PIPE_WIDTH,
        highlight=False,
    )


def _written(console: Console) -> bytes:
    assert isinstance(console.file, io.StringIO)  # noqa: S101 - made in _console
    return console.file.getvalue().encode()


def _comparison(console: Console, judgement: Judgement) -> None:
    """Draw the rows of every device, an overview, and where devices disagree."""
    tables = judgement.tables
    for table in tables:
        console.print(f"\n[bold]{escape(notes.heading(table))}[/]", soft_wrap=True)
        if table.trouble:
            console.print(f"[red]✗ {escape(table.trouble)}[/]", soft_wrap=True)
        if table.shortfall:
            console.print(f"[yellow]! {escape(table.shortfall.sentence)}[/]", soft_wrap=True)
        if table.device.state != "failed" or any(row.state == "measured" for row in table.rows):
            styles = [_style(row.state) for row in table.rows]
            shown = columns.of(table)
            cells = [[column.text(row) for column in shown] for row in table.rows]
            for grid in _grids([column.title for column in shown], cells, styles, console.width):
                console.print(grid)
        for line in notes.notes(table):
            console.print(f"  {escape(line)}", soft_wrap=True)
    if len(tables) > 1:
        console.print("\n[bold]all devices[/]: median and speed-up over fp32, or instructions if a device is emulated")
        header, cases = overview.overview(tables)
        for grid in _grids(header, cases, [None] * len(cases), console.width):
            console.print(grid)
    for line in judgement.disagreements:
        console.print(f"  {escape(line)}", soft_wrap=True)


def sheet(found: Sheet) -> bytes:
    """Draw one sheet alone."""
    console = _console()
    draw(console, found)
    return _written(console)


def draw(console: Console, found: Sheet) -> None:
    """Draw a gate's or the claims' grid, and the lines below."""
    console.print(f"\n[bold]{escape(found.title)}[/]", soft_wrap=True)
    if found.rows:
        styles = [STYLES.get(style or "") for style in found.styles]
        for grid in _grids(found.header, found.rows, styles, console.width):
            console.print(grid)
    for line in found.lines:
        console.print(f"  {escape(line)}", soft_wrap=True)


def escape(words: str) -> str:
    """Escape what rich would read as markup, and what a terminal would obey."""
    return markup.escape(sanitize(words))


def _style(state: str) -> str | None:
    return None if state == "measured" else "dim" if state in {"impossible", "unmeasured"} else "red"


def _grids(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None], width: int) -> list[Grid]:
    """Lay out a table. If it is wider than the terminal, split it into several, each with the first column."""
    widths = [max(map(cell_len, [title, *(row[position] for row in rows)])) + PADDING for position, title in enumerate(titles)]
    parts: list[list[int]] = []
    for position in range(1, len(titles)):
        if parts and widths[0] + sum(widths[taken] for taken in parts[-1]) + widths[position] <= width:
            parts[-1].append(position)
        else:
            parts.append([position])
    return [_grid([0, *part], titles, rows, styles) for part in parts]


def _grid(positions: Sequence[int], titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for position in positions:
        grid.add_column(escape(titles[position]), justify="right" if position else "left", no_wrap=True)
    for row, style in zip(rows, styles, strict=True):
        grid.add_row(*(escape(row[position]) for position in positions), style=style)
    return grid
