"""Plain grids on the terminal, for commands that list things."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

PIPE_WIDTH = 200


def console() -> Console:
    """Give a console on stdout; in a pipe it is wide, so that lines stay whole."""
    return Console(width=shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Lay out rows under titles; nothing in them is read as markup, or obeyed by the terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(escape(title), overflow="fold")
    for row in rows:
        table.add_row(*(escape(sanitize(cell)) for cell in row))
    return table
