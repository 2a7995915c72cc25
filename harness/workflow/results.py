"""Finish a run, or read it again: from its journal to tables and files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.errors import ResultsError
from harness.files import write_bytes
from harness.judge.judgement import judge
from harness.records import isolation
from harness.records.folder import JOURNAL, SAMPLES, find_run, gather, load_run, save_run
from harness.records.samples import read_quantiles
from harness.report import formats

if TYPE_CHECKING:
    from pathlib import Path

    from harness.judge.judgement import Judgement
    from harness.records.run import Run


def finish_run(folder: Path, begun: Run, *, interrupted: bool) -> tuple[Path, Judgement]:
    """Put the run together from its journal and write its files; run.json last, for it says that the folder is complete.

    Raises:
        ResultsError: if a file can't be written.
    """
    whole = gather(folder, begun)
    ended = whole.model_copy(update={"state": "interrupted" if interrupted else "complete", "finished": datetime.now(UTC)})
    quantiles = read_quantiles(folder / SAMPLES, whole.cases)

    def judged(run: Run) -> tuple[Judgement, dict[Path, bytes]]:
        judgement = judge(run, quantiles)
        return judgement, formats.files(folder, judgement)

    ended, (judgement, files) = isolation.isolated(ended, judged)
    try:
        for path, content in files.items():
            path.parent.mkdir(exist_ok=True)
            write_bytes(path, content, sync=True)
    except OSError as exc:
        message = f"{exc.filename or folder}: can't be written: {exc.strerror}; what was measured is in {folder / JOURNAL}"
        raise ResultsError(message) from exc
    save_run(folder, ended)
    return folder, judgement


def read_run(name: str, results: Path) -> tuple[Path, Judgement]:
    """Read a run and judge it.

    Raises:
        ResultsError: if there is no such run, or it is damaged.
    """
    folder = find_run(name, results)
    found = load_run(folder)
    return folder, judge(found, read_quantiles(folder / SAMPLES, found.cases))
