"""Render a comparison of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report import gate
from harness.report.numbers import UNKNOWN, estimate
from harness.report.sheets import Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.comparison import Cell, Comparison
    from harness.judge.intervals import Estimate
    from harness.records.run import Run


def sheets(runs: Sequence[Run], found: Sequence[Comparison]) -> tuple[Sheet, ...]:
    """A sheet for each device: a line for each case, and for each run its level, and the change since the first."""
    header = ["case", "1: median ms"]
    for position in range(2, len(runs) + 1):
        header += [f"{position}: median ms", f"{position}: change"]
    return tuple(_sheet(runs, each, tuple(header)) for each in found)


def _sheet(runs: Sequence[Run], found: Comparison, header: tuple[str, ...]) -> Sheet:
    rows = []
    reasons: dict[str, None] = {}
    for name, cells in found.cases.items():
        row = [name, _level(cells[0])]
        for cell in cells[1:]:
            row += [_level(cell), UNKNOWN if cell is None or cell.change is None else gate.interval(cell.change)]
            if cell is not None and cell.reason and cells[0] is not None:
                reasons[f"{name}: no change can be computed: {cell.reason}"] = None
        rows.append(tuple(row))
    lines = [f"{position}: run {run.id}, {run.started:%Y-%m-%d %H:%M} UTC" for position, run in enumerate(runs, 1)]
    if found.forced:
        lines.append("FORCED: the contexts differ in ways that change latencies, so these differences prove nothing")
    for position, differences in enumerate(found.differences, 2):
        lines += [f"{position} against 1: {'! ' if each.decisive else ''}{each}" for each in differences]
    lines.append(
        "change: how the case's latency changed relative to fp32's, which each run measured side by side with it; latencies alone differ from run to run"
    )
    return Sheet(found.device, header, tuple(rows), (None,) * len(rows), (*lines, *reasons))


def _level(cell: Cell | None) -> str:
    if cell is None:
        return UNKNOWN
    if cell.level is None and cell.instructions is not None:
        return f"{cell.instructions:.2f} M instr."
    return estimate(cell.level)


def content(runs: Sequence[Run], found: Sequence[Comparison]) -> dict[str, Any]:
    """For JSON."""
    return {
        "runs": [{"run": run.id, "started": run.started.isoformat()} for run in runs],
        "devices": [
            {
                "device": each.device,
                "forced": each.forced,
                "differences": [[vars(difference) for difference in some] for some in each.differences],
                "cases": [
                    {"case": name, "runs": [None if cell is None else _cell(cell) for cell in cells]}
                    for name, cells in each.cases.items()
                ],
            }
            for each in found
        ],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "median_ms": _ends(cell.level),
        "speedup": _ends(cell.speedup),
        "instructions_millions": cell.instructions,
        "change": _ends(cell.change),
        "reason": cell.reason,
        "same_file": cell.same_file,
    }


def _ends(found: Estimate | None) -> list[float | None] | None:
    return None if found is None else [found.value, found.low, found.high]
