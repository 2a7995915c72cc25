"""table.csv: all numbers of each row, unrounded, one row a line."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import TYPE_CHECKING, Any

from harness.judge.intervals import Estimate
from harness.judge.row import Row
from harness.report import figures

if TYPE_CHECKING:
    from harness.judge.judgement import Judgement

# A row's columns: all that it holds, but for the replicates, of which there are as many as rounds, and the id, which means nothing to readers.
FIELDS = tuple(field.name for field in dataclasses.fields(Row) if field.name not in {"medians", "id"})
COUNTS = ("instructions", "cycles")
ESTIMATES = {"median": "ms", "p90": "ms", "p99": "ms", "speedup": "", "load": "ms", "first": "ms"}


def render(judgement: Judgement) -> bytes:
    """Write comma-separated values with a header; what is not known is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(_header()), lineterminator="\n")
    writer.writeheader()
    for table in judgement.tables:
        for row in table.rows:
            writer.writerow(flat(row))
    return out.getvalue().encode()


def flat(row: Row) -> dict[str, Any]:
    """A row as columns; an estimate becomes its value and its interval's ends, a count its millions and their spread."""
    found: dict[str, Any] = {}
    for field in FIELDS:
        value = getattr(row, field)
        if field in ESTIMATES:
            value = value or Estimate(None, None, None, 0)  # type: ignore[arg-type]
            found |= dict(zip(_names(field), (value.value, value.low, value.high), strict=True))
        elif field in COUNTS:
            found |= dict(zip(_names(field), (value.value, value.spread) if value else (None, None), strict=True))
        elif field == "fidelity":
            found |= figures.flat(value)
        elif field in {"notes", "left"}:
            found[field] = "; ".join(value)
        elif field == "throughput":
            found["throughput_per_second"] = "; ".join(f"{sessions}: {each.value}" for sessions, each in value)
        elif field == "metrics":
            found[field] = "; ".join(f"{name}: {each}" for name, each in value)
        else:
            found[field] = value
    return found


def _header() -> list[str]:
    return [name for field in FIELDS for name in _names(field)]


def _names(name: str) -> list[str]:
    if name == "throughput":
        return ["throughput_per_second"]
    if name == "fidelity":
        return list(figures.NAMES)
    if name not in {*ESTIMATES, *COUNTS}:
        return [name]
    if name in COUNTS:
        return [f"{name}_millions", f"{name}_spread"]
    whole = f"{name}_{ESTIMATES[name]}" if ESTIMATES[name] else name
    return [whole, f"{whole}_low", f"{whole}_high"]
