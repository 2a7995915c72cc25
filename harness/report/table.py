"""Tables for a terminal, or for a pipe, where they are as wide as they need to be."""

from __future__ import annotations

import io
import shutil
import sys
from typing import TYPE_CHECKING

from rich import box, markup
from rich.console import Console
from rich.table import Table as Grid

from harness.report import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.summary import Table
    from harness.records.run import Run

PIPE_WIDTH = 220


def render(run: Run, tables: Sequence[Table]) -> bytes:
    """Draw one table for each device, what must be known beside it, and an overview of several devices."""
    terminal = sys.stdout.isatty()
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=shutil.get_terminal_size().columns if terminal else PIPE_WIDTH,
        highlight=False,
    )
    for table in tables:
        console.print(f"\n[bold]{escape(columns.heading(table))}[/]", soft_wrap=True)
        if table.trouble:
            console.print(f"[red]✗ {escape(table.trouble)}[/]", soft_wrap=True)
        if table.device.state != "failed" or any(row.state == "measured" for row in table.rows):
            console.print(_grid(table))
        for line in columns.reasons(table):
            console.print(f"  {escape(line)}", soft_wrap=True)
    if len(tables) > 1:
        console.print("\n[bold]all devices[/]: median and speed-up against fp32")
        header, cases = columns.overview(tables)
        grid = _empty(header)
        for cells in cases:
            grid.add_row(*map(escape, cells))
        console.print(grid)
    for warning in run.warnings:
        console.print(f"[yellow]! {escape(warning)}[/]", soft_wrap=True)
    assert isinstance(console.file, io.StringIO)  # noqa: S101 - made above
    return console.file.getvalue().encode()


def escape(words: str) -> str:
    """Escape what rich would read as markup, and what a terminal would obey."""
    return markup.escape(columns.plain(words))


def _empty(titles: Sequence[str]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, title in enumerate(titles):
        grid.add_column(escape(title), justify="left" if position == 0 else "right", no_wrap=position == 0, overflow="fold")
    return grid


def _grid(table: Table) -> Grid:
    """One device's rows."""
    grid = _empty([column.title for column in columns.COLUMNS])
    for row in table.rows:
        style = None if row.state == "measured" else "dim" if row.state in {"impossible", "unmeasured"} else "red"
        grid.add_row(*(escape(column.text(row)) for column in columns.COLUMNS), style=style)
    return grid
