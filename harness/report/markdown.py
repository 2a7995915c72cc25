"""table.md: the tables for a pull request or a job summary."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from harness.report import columns, gate, notes, overview, sheets
from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.judgement import Judgement


def render(judgement: Judgement) -> bytes:
    """Write GitHub-flavoured Markdown; what devices and models say is escaped."""
    run, tables = judgement.run, judgement.tables
    lines = [f"# {text(run.study.name)}", "", f"Run {text(run.id)}, {judgement.outcome}."]
    lines += [f"> **Note** {text(warning)}" for warning in run.warnings]
    if judgement.is_gate:
        lines += ["", f"**{text(gate.verdict(judgement))}**"]
    for sheet in sheets.sheets(judgement):
        lines += [
            "",
            f"## {text(sheet.title)}",
            "",
            *grid(sheet.header, sheet.rows),
            "",
            *(f"- {text(line)}" for line in sheet.lines),
        ]
    for table in () if judgement.is_gate else tables:
        lines += ["", f"## {text(notes.heading(table))}", ""]
        if table.trouble:
            lines += [f"**✗ {text(table.trouble)}**", ""]
        if table.shortfall:
            lines += [f"> **Note** {text(table.shortfall.sentence)}", ""]
        shown = columns.of(table)
        lines += grid([column.title for column in shown], [[column.text(row) for column in shown] for row in table.rows])
        lines += ["", *(f"- {text(line)}" for line in notes.notes(table))]
    if len(tables) > 1 and not judgement.is_gate:
        header, rows = overview.overview(tables)
        lines += [
            "",
            "## All devices",
            "",
            "Median and speed-up over fp32, or instructions if a device is emulated.",
            "",
            *grid(header, rows),
        ]
        lines += ["", *(f"- {text(line)}" for line in judgement.disagreements)]
    return ("\n".join(lines).rstrip() + "\n").encode()


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A pipe table: first column to the left, the others to the right."""
    ruler = [":--", *["--:"] * (len(header) - 1)]
    return [
        "| " + " | ".join(cells) + " |"
        for cells in ([text(cell) for cell in header], ruler, *([text(cell) for cell in row] for row in rows))
    ]


def text(words: str) -> str:
    """Escape what Markdown or HTML would read as markup; line ends become spaces."""
    safe = html.escape(sanitize(re.sub(r"\s+", " ", words)), quote=False)
    return re.sub(r"([\\`*_~\[\]|#])", r"\\\1", safe)
