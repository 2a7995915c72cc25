"""The report formats: each is one module with ``render(judgement) -> bytes`` and one line in :data:`FORMATS`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.judge.judgement import Judgement


@dataclass(frozen=True)
class Format:
    """A way to write a run.

    Attributes:
        module: has ``render(judgement) -> bytes``, and ``beside(judgement)`` if its file refers to others: their contents by name.
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


def render(name: str, judgement: Judgement) -> bytes:
    """Render a run in a format.

    Args:
        name: a key of :data:`FORMATS`.
        judgement: everything that is said of the run.
    """
    # Imported when asked for: most need a library of their own.
    rendered: bytes = importlib.import_module(FORMATS[name].module).render(judgement)
    return rendered


def files(folder: Path, judgement: Judgement) -> dict[Path, bytes]:
    """Render every format that has a file in the run's folder, with the files that they refer to.

    Returns:
        Contents by path.
    """
    found: dict[Path, bytes] = {}
    for name, form in FORMATS.items():
        if form.file is None:
            continue
        path = folder / form.file
        found[path] = render(name, judgement)
        beside = getattr(importlib.import_module(form.module), "beside", None)
        found |= {path.parent / other: data for other, data in (beside(judgement) if beside else {}).items()}
    return found
