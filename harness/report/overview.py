"""A table of all devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.columns import speedup
from harness.report.numbers import UNKNOWN, number, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.table import Table


def overview(tables: Sequence[Table]) -> tuple[list[str], list[list[str]]]:
    """All devices beside each other: a line for each case, a column for each device with median and speed-up.

    Returns:
        The header and the lines; a device that failed has its column marked.
    """
    header = ["variant"]
    for table in tables:
        mark = f" ✗ {table.device.step or 'failed'}" if table.device.state == "failed" else ""
        header.append(table.device.entry.name + mark)
    names = {row.id or row.case: row.case for table in tables for row in table.rows}
    by_case = [{row.id or row.case: row for row in table.rows} for table in tables]
    lines = []
    for case, name in names.items():
        cells = [name]
        for rows in by_case:
            row = rows.get(case)
            if row is not None and row.state not in {"measured", "unmeasured"}:
                cells.append(row.state)
            elif row is not None and row.instructions is not None and row.median is None:
                cells.append(f"{row.instructions.value:.2f} M instr.  {share(row.instruction_ratio)} of fp32")
            elif row is None or row.median is None:
                cells.append(UNKNOWN)
            else:
                cells.append(f"{number(row.median.value)} ms  {speedup(row)}")
        lines.append(cells)
    return header, lines
