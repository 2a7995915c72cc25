"""Which operators take the time: ``harness show RUN --ops``. From onnxruntime's profiler, and so never a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report import columns
from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.rows import Table
    from harness.measure.events import Operator
    from harness.records.run import Run

NOTE = "from onnxruntime's profiler, in a block of its own: shares are telling, times are no measurements"


def content(run: Run, tables: Sequence[Table]) -> list[dict[str, Any]]:
    """One entry for each operator of each case on each device, the slowest first."""
    names = {case.name: case.id for case in run.cases}
    found = []
    for table in tables:
        for row in table.rows:
            for op in _ops(run, table.device.entry.name, names.get(row.case)):
                found.append({"device": row.device, "case": row.case, **op.model_dump()})  # noqa: PERF401 - plainer so
    return found


def render(run: Run, tables: Sequence[Table]) -> bytes:
    """Draw the operators as plain text; an emulated device has shares of instructions' time only, so none at all."""
    names = {case.name: case.id for case in run.cases}
    lines = []
    for table in tables:
        lines.append(f"\n{sanitize(columns.heading(table))}")
        for row in table.rows:
            ops = _ops(run, table.device.entry.name, names.get(row.case))
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


def _ops(run: Run, device: str, case: str | None) -> list[Operator]:
    record = next((found for found in run.results if (found.device, found.case) == (device, case)), None)
    ops = record.graph.ops if record is not None and record.graph is not None else []
    return sorted(ops, key=lambda op: -op.microseconds)
