"""Render the operators' shares of the time (``harness show RUN --ops``), from onnxruntime's profiler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report import notes
from harness.text import sanitize

if TYPE_CHECKING:
    from harness.judge.judgement import Judgement
    from harness.judge.row import Row
    from harness.measure.events import Operator
    from harness.records.run import Run

NOTE = "from onnxruntime's profiler, in a separate run: compare the shares; the profiler makes the times too long"


def content(judgement: Judgement) -> list[dict[str, Any]]:
    """One entry for each operator of each case on each device, the slowest first."""
    found = []
    for table in judgement.tables:
        for row in table.rows:
            for op in _ops(judgement.run, row):
                found.append({"device": row.device, "case": row.case, **op.model_dump()})  # noqa: PERF401 - plainer so
    return found


def render(judgement: Judgement) -> bytes:
    """Render the operators as plain text; an emulated device has none."""
    lines = []
    for table in judgement.tables:
        lines.append(f"\n{sanitize(notes.heading(table))}")
        for row in table.rows:
            ops = _ops(judgement.run, row)
            if not ops:
                continue
            total = sum(op.microseconds for op in ops)
            lines.append(f"  {sanitize(row.case)} · graph {row.graph} · {row.nodes} nodes")
            width = max(len(sanitize(op.op)) for op in ops)
            for op in ops:
                share = f"{100 * op.microseconds / total:5.1f} %" if total else "–"
                time = "" if table.emulated else f"{op.microseconds:10.1f} µs"
                where = "" if op.provider == "CPUExecutionProvider" else f"  {sanitize(op.provider)}"
                lines.append(f"    {sanitize(op.op):{width}} ×{op.count:<4} {share}{time}{where}")
    return ("\n".join([*lines, "", NOTE]) + "\n").lstrip("\n").encode()


def _ops(run: Run, row: Row) -> list[Operator]:
    record = next((found for found in run.results if (found.device, found.case) == (row.device, row.id)), None)
    ops = record.graph.ops if record is not None and record.graph is not None else []
    return sorted(ops, key=lambda op: -op.microseconds)
