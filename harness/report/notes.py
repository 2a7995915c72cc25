"""The heading above a device's table, and the notes below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.numbers import estimate

if TYPE_CHECKING:
    from harness.judge.row import Row
    from harness.judge.table import PairRatio, Table

# So many cases are named where several have the same reason.
NAMED = 4
OVERHEAD = "latencies below 0.5 ms include Python's own time for each call, about 1 µs on a fast core (benchmarks/overhead.py)"


def heading(table: Table) -> str:
    """One line that says which device a table is of."""
    return device(table) if table.device.facts is None else f"{device(table)} · {visits(table)}"


def device(table: Table) -> str:
    """The name of a device, its processor and its runtimes."""
    facts, name = table.device.facts, table.device.entry.name
    if facts is None:
        return name
    runtime = ", ".join(table.device.runtimes) or facts.onnxruntime.version or "none"
    cores = f"{facts.cores} core{'s' if facts.cores > 1 else ''}"
    return f"{name} · {facts.cpu_model or facts.arch} ({facts.arch}, {cores}) · onnxruntime {runtime}"


def visits(table: Table) -> str:
    """How often a table's cases were measured: rounds, or on an emulated device the processes that counted."""
    if not table.emulated:
        return f"{table.device.rounds} round{'' if table.device.rounds == 1 else 's'}"
    counts = {row.instructions.n for row in table.rows if row.instructions}
    if not counts:
        return "instructions not counted"
    between = "–".join(str(n) for n in sorted({min(counts), max(counts)}))
    return f"counted in {between} process{'es' if max(counts) > 1 else ''}"


def notes(table: Table) -> list[str]:
    """The notes below a table; a note on several cases appears once."""
    # When the device failed, its unmeasured cases have the same reason, which is the table's own.
    quiet = {"measured", "unmeasured"} if table.device.state == "failed" else {"measured"}
    said: dict[str, list[str]] = {}
    for row in table.rows:
        if row.state not in quiet and row.reason:
            said.setdefault(f"{row.state}: {row.reason}", []).append(row.case)
    for row in table.rows:
        for note in row.notes:
            said.setdefault(note, []).append(row.case)
    lines = [f"{_several(cases)}: {words}" for words, cases in said.items()]
    shown = [known for row in table.rows if row.state == "measured" for known in (row.median, row.speedup) if known]
    if any(known.low is None for known in shown):
        lines.append("[?]: no interval yet, because there are fewer than three launches")
    if any(row.includes_overhead for row in table.rows):
        lines.append(OVERHEAD)
    lines += _alike(table)
    lines += map(_ratio, table.pairs)
    if any(row.fidelity.probabilities for row in table.rows):
        lines.append("KL: the outputs of fp32 are probabilities already, so no softmax is applied")
    lines += table.remarks
    return [*lines, *table.unmeasured]


def _ratio(pair: PairRatio) -> str:
    against = f"{pair.second} against {pair.first}"
    if pair.ratio is None:
        return f"{against}: not measured"
    how = ", in separate processes" if pair.separate_processes else ""
    return f"{against}: {estimate(pair.ratio, '×')} as fast{how}{'' if pair.ratio.direction else ' (undecided)'}"


def _alike(table: Table) -> list[str]:
    """Name the cases that end in the same graph, and where quantizing was not fused away."""
    groups: dict[str, list[Row]] = {}
    for row in table.rows:
        if row.graph is not None:
            groups.setdefault(row.graph, []).append(row)
    lines = [
        f"graph {letter}: {', '.join(row.case for row in rows)} run the same operators"
        for letter, rows in groups.items()
        if len({row.variant for row in rows}) > 1
    ]
    for row in table.rows:
        if row.is_unfused:
            more = " …" if (row.unfused or 0) + (row.casts or 0) > len(row.left) else ""
            lines.append(
                f"{row.case}: {row.unfused} QuantizeLinear and DequantizeLinear of {row.nodes} nodes stayed unfused: {', '.join(row.left[:NAMED])}{more}"
            )
    return lines


def _several(names: list[str]) -> str:
    """Name one or a few, and count the others."""
    return ", ".join(names) if len(names) <= NAMED else f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"
