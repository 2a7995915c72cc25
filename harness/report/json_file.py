"""JSON: the run's context and every row, for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.report.csv_file import flat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.summary import Table
    from harness.records.run import Run


def render(run: Run, tables: Sequence[Table]) -> bytes:
    """Write one object; what is not known is null, and no NaN or Infinity appears."""
    return (json.dumps(content(run, tables), indent=1, allow_nan=False) + "\n").encode()


def content(run: Run, tables: Sequence[Table]) -> dict[str, Any]:
    """The object that is written."""
    return {
        "run": run.id,
        "study": run.study.name,
        "state": run.state,
        "started": run.started.isoformat(),
        "warnings": list(run.warnings),
        "devices": [
            {
                "device": table.device.entry.name,
                "state": table.device.state,
                "trouble": table.trouble,
                "emulated": table.emulated,
                "rounds": table.device.rounds,
                "facts": table.device.facts.model_dump(mode="json") if table.device.facts else None,
                "rows": [flat(row) for row in table.rows],
            }
            for table in tables
        ],
    }
