"""The seam of the report formats: each is one module with ``render(run, tables) -> bytes`` and one line in :data:`FORMATS`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.judge.rows import Table
    from harness.records.run import Run


@dataclass(frozen=True)
class Format:
    """A way to write a run.

    Attributes:
        module: has ``render(run, tables) -> bytes``.
        file: its name in the run's folder; None for what is only shown.
    """

    module: str
    file: str | None


FORMATS = {
    "table": Format("harness.report.table", None),
    "md": Format("harness.report.markdown", "table.md"),
    "csv": Format("harness.report.csv_file", "table.csv"),
    "json": Format("harness.report.json_file", None),
    "html": Format("harness.report.html", "report/index.html"),
    "junit": Format("harness.report.junit", "junit.xml"),
    "github": Format("harness.report.github", None),
    "pytest-benchmark": Format("harness.report.benchmark_json", "benchmark.json"),
}


def render(name: str, run: Run, tables: Sequence[Table]) -> bytes:
    """Render a run in a format.

    Args:
        name: a key of :data:`FORMATS`.
        run: with its outcomes.
        tables: its rows, from :func:`harness.judge.rows.tables`.
    """
    # Imported when asked for: most need a library of their own.
    rendered: bytes = importlib.import_module(FORMATS[name].module).render(run, tables)
    return rendered


def files(folder: Path, run: Run, tables: Sequence[Table]) -> dict[Path, bytes]:
    """Render every format that has a file in the run's folder, with the files that they refer to.

    Returns:
        Contents by path.
    """
    rendered = {folder / form.file: render(name, run, tables) for name, form in FORMATS.items() if form.file}
    beside = importlib.import_module("harness.report.html").beside(run, tables)
    return rendered | {folder / "report" / name: data for name, data in beside.items()}
