"""The columns of the comparison table, as people read them; every format for readers shows these."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.judge.counts import Count
    from harness.judge.intervals import Estimate
    from harness.judge.row import Row
    from harness.judge.table import PairRatio, Table

UNKNOWN = "–"
# Above this, a number is easier to read with an exponent.
PLAIN = 1e7
# Stands beside an SQNR that does not tell the whole; the lines below a table do.
BROKEN = "!"
# So many cases are named where several have the same reason.
NAMED = 4
# Per cent; a smaller spread is not told apart.
LEAST_SPREAD = 0.001
# So many QuantizeLinear and DequantizeLinear remain in a graph that is fused throughout: at its input and output.
FUSED = 4
# Milliseconds.
SMALL = 0.5
OVERHEAD = "levels below 0.5 ms hold what Python takes per call: about 1 µs on a fast core (benchmarks/overhead.py)"


class Column(NamedTuple):
    """A column: its title, what it shows of a row, and what it means."""

    title: str
    text: Callable[[Row], str]
    meaning: str


def size(count: int | None) -> str:
    """Bytes in kB or MB (powers of ten)."""
    if count is None:
        return UNKNOWN
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"  # noqa: PLR2004 - the units' own size


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits."""
    if value is None:
        return UNKNOWN
    if value == 0 or 10**-digits <= abs(value) < 10**digits:
        return f"{value:#.{digits}g}".rstrip(".")
    if 1 <= abs(value) < PLAIN:
        return f"{value:.0f}"
    return f"{value:.{digits - 1}e}"


def estimate(value: Estimate | None, unit: str = "") -> str:
    """A value with its interval; without one it is marked as not known."""
    if value is None:
        return UNKNOWN
    # Enough digits to tell the interval's ends apart.
    half = value.half_width
    digits = min(6, max(3, 1 - math.floor(math.log10(half)))) if half else 3
    if value.low is None or value.high is None:
        return f"{number(value.value, digits)}{unit} [?]"
    return f"{number(value.value, digits)}{unit} [{number(value.low, digits)}, {number(value.high, digits)}]"


def percent(value: float | None) -> str:
    """A share in per cent."""
    return UNKNOWN if value is None else f"{100 * value:.2f} %"


def points(value: float | None) -> str:
    """A difference of shares in percentage points."""
    return UNKNOWN if value is None else f"{100 * value:+.2f} pp" if value else "0.00 pp"


def _sqnr(row: Row) -> str:
    found = row.fidelity
    if found.identical:
        return "identical"
    broken = f" {BROKEN}" if found.dead or found.unequal_count else ""
    if found.sqnr_db is not None:
        return f"{found.sqnr_db:.1f} dB{broken}"
    if not found.values:
        return f"{UNKNOWN}{broken}"
    return f"∞ dB{broken}" if found.mse == 0 else f"not finite{broken}"


def _median(row: Row) -> str:
    return row.state if row.state != "measured" else estimate(row.median)


def _speedup(row: Row) -> str:
    if row.state != "measured":
        return UNKNOWN
    # fp32 against itself is no measurement.
    return "1×" if row.speedup and row.speedup.low == row.speedup.high == 1 else estimate(row.speedup, "×")


def _no_latency(row: Row) -> str:
    return row.state if row.state != "measured" else "not measured: emulated"


def _share(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio:.3f}"


def millions(found: Count | None) -> str:
    """A count in millions with half the spread that was seen."""
    if found is None:
        return UNKNOWN
    if found.spread is None:
        return f"{found.value:.2f} [?]"
    half = 50 * found.spread
    return f"{found.value:.2f} ±{f'{half:.2g}' if half >= LEAST_SPREAD else f'<{LEAST_SPREAD}'} %"


def _level(row: Row, found: Estimate | None) -> str:
    """A quantile; not of a case that failed after some rounds, whose state stands in the median's place."""
    return number(found.value) if found is not None and row.state == "measured" else UNKNOWN


def _graph(row: Row) -> str:
    """The letter of a row's graph, and what of quantizing is left in it."""
    if row.graph is None:
        return UNKNOWN
    left = [f"{count} {what}" for count, what in ((row.unfused, "Q/DQ"), (row.casts, "Cast")) if count]
    return ", ".join([row.graph, *left])


IDENTITY = (
    Column("variant", lambda row: row.case, "how the model was made, and the session settings that vary"),
    Column("size", lambda row: size(row.size), "of the model file"),
    Column("of fp32", lambda row: UNKNOWN if row.size_ratio is None else f"{row.size_ratio:.2f}", "size over fp32's"),
)
TIMES = (
    Column(
        "median ms",
        _median,
        "of an inference, with its 95 % interval (Student's t over rebuilds of the session, or over processes if those differ more)",
    ),
    Column("p90", lambda row: _level(row, row.p90), "milliseconds, over the processes' 90th percentiles"),
    Column("p99", lambda row: _level(row, row.p99), "the same for the 99th"),
    Column("speed-up", _speedup, "fp32's latency over this one's, side by side in the same processes, with its 95 % interval"),
)
STARTS = (
    Column("load ms", lambda row: _level(row, row.load), "to create the session, where it is a process's first"),
    Column("first ms", lambda row: _level(row, row.first), "the first inference of such a session"),
)
NO_TIMES = (Column("latency", _no_latency, "an emulated device has none"),)
MEMORY = Column("memory", lambda row: size(row.peak_bytes), "peak resident size of a process with this session alone")
GRAPH = Column("graph", _graph, "the same letter: the same operators after onnxruntime's optimizations; Q/DQ left there")
COUNTS = (
    Column(
        "M instr.",
        lambda row: millions(row.instructions),
        "millions of instructions per inference; ± half the spread seen over processes",
    ),
    Column("instr. of fp32", lambda row: _share(row.instruction_ratio), "instructions over fp32's on this device"),
)
CYCLES = (
    Column(
        "M cycles", lambda row: millions(row.cycles), "millions of cycles per inference, user space, as the kernel counted them"
    ),
)
ACCURACY = (
    Column("top-1", lambda row: percent(row.accuracy), "accuracy on the evaluation data, as this device computes it"),
    Column("drop", lambda row: points(row.accuracy_drop), "fp32's accuracy on this device minus this one's"),
    Column("MSE", lambda row: number(row.fidelity.mse), "mean squared error of the outputs against the controller's fp32"),
    Column(
        "SQNR",
        _sqnr,
        "signal to quantization noise of the worst output against the controller's fp32; !: parts of the outputs are constant or not finite",
    ),
)
DIVERGENCE = Column(
    "KL",
    lambda row: number(row.fidelity.kl_divergence),
    "Kullback-Leibler divergence of the classes' probabilities from fp32's, in nats",
)


def of(table: Table) -> tuple[Column, ...]:
    """The columns of a device's table: latency, instructions or both, never one for the other."""
    counts = COUNTS if any(row.instructions for row in table.rows) else ()
    cycles = CYCLES if any(row.cycles for row in table.rows) else ()
    sessions = sorted({number for row in table.rows for number, _ in row.throughput})
    crowds = [_throughput(number) for number in sessions]
    graph = (GRAPH,) if any(row.graph for row in table.rows) else ()
    return (
        *IDENTITY,
        *(NO_TIMES if table.emulated else TIMES),
        *crowds,
        *counts,
        *cycles,
        *ACCURACY,
        *((DIVERGENCE,) if any(row.fidelity.kl_divergence is not None for row in table.rows) else ()),
        *_metrics(table),
        *(() if table.emulated else STARTS),
        MEMORY,
        *graph,
    )


def _metrics(table: Table) -> list[Column]:
    """A column for each figure of the study's own."""
    names = {name: row.metrics_better for row in table.rows for name, _ in row.metrics}

    def column(name: str, better: str | None) -> Column:
        arrow = {"higher": " ↑", "lower": " ↓"}.get(better or "", "")
        return Column(
            f"{name}{arrow}", lambda row: number(dict(row.metrics).get(name), 4), f"the study's own metric; {better} is better"
        )

    return [column(*each) for each in names.items()]


def _throughput(sessions: int) -> Column:
    """The column of a number of sessions at once."""
    return Column(
        f"inf/s ×{sessions}",
        lambda row: next((estimate(found) for number, found in row.throughput if number == sessions), UNKNOWN),
        f"inferences per second of {sessions} session{'s' if sessions > 1 else ''} at once, with its 95 % interval",
    )


def everything(tables: Sequence[Table]) -> tuple[Column, ...]:
    """The columns of all tables, each once, for a legend."""
    return tuple({column.title: column for table in tables for column in of(table)}.values())


def reasons(table: Table) -> list[str]:
    """Everything that a reader must know beside the numbers of a table; what is said of several cases is said once."""
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
        lines.append("[?]: fewer than three processes allow no interval")
    if any(row.median and row.median.value < SMALL for row in table.rows):
        lines.append(OVERHEAD)
    lines += _alike(table)
    lines += [f"{pair.first} against {pair.second}: {_ratio(pair)}" for pair in table.pairs]
    if any(row.fidelity.probabilities for row in table.rows):
        lines.append("KL is of the outputs as they are: fp32's are probabilities already")
    lines += table.remarks
    return [*lines, *_unmeasured(table)]


def _unmeasured(table: Table) -> list[str]:
    """What this device can't tell, and why."""
    lines = []
    if table.emulated:
        lines.append(f"times are not measured: the device is emulated ({table.emulated})")
        if table.emulated == "wall":
            lines.append("instructions are not counted: its clock is the host's (harness board up --clock icount counts them)")
        samples = {row.samples for row in table.rows if row.samples}
        if samples:
            lines.append(
                f"accuracy, MSE and SQNR are over the first {max(samples)} evaluation samples (measure.emulated_samples)"
            )
    elif (facts := table.device.facts) is not None and facts.uncountable is not None and table.rows:
        lines.append(f"instructions are not counted: {facts.uncountable}")
    return lines


def _ratio(pair: PairRatio) -> str:
    if pair.ratio is None:
        return "not known"
    return f"the second is {estimate(pair.ratio, '×')} as fast, {'in processes that alternate' if pair.separate_processes else 'side by side'}"


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
        # One at the input and one at the output are no waste.
        if row.unfused is not None and row.unfused > FUSED:
            more = " …" if row.unfused + (row.casts or 0) > len(row.left) else ""
            lines.append(
                f"{row.case}: {row.unfused} QuantizeLinear and DequantizeLinear of {row.nodes} nodes stayed unfused: {', '.join(row.left[:NAMED])}{more}"
            )
    return lines


def _several(names: list[str]) -> str:
    """Name one or a few, and count the others."""
    return ", ".join(names) if len(names) <= NAMED else f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"


def heading(table: Table) -> str:
    """One line that says which device a table is of."""
    facts, name = table.device.facts, table.device.entry.name
    if facts is None:
        return name
    runtime = ", ".join(table.device.runtimes) or facts.onnxruntime.version or "none"
    cores = f"{facts.cores} core{'s' if facts.cores > 1 else ''}"
    return f"{name} · {facts.cpu_model or facts.arch} ({facts.arch}, {cores}) · onnxruntime {runtime} · {visits(table)}"


def visits(table: Table) -> str:
    """How often a table's cases were measured: rounds, or on an emulated device the processes that counted."""
    if not table.emulated:
        return f"{table.device.rounds} rounds"
    counts = {row.instructions.n for row in table.rows if row.instructions}
    if not counts:
        return "instructions not counted"
    between = "–".join(str(n) for n in sorted({min(counts), max(counts)}))
    return f"counted in {between} process{'es' if max(counts) > 1 else ''}"


def overview(tables: Sequence[Table]) -> tuple[list[str], list[list[str]]]:
    """All devices beside each other: a line for each case, a column for each device with median and speed-up.

    Returns:
        The header and the lines; a device that failed has its column marked.
    """
    header = ["variant"]
    for table in tables:
        mark = f" ✗ {table.device.step or 'failed'}" if table.device.state == "failed" else ""
        header.append(table.device.entry.name + mark)
    names = list(dict.fromkeys(row.case for table in tables for row in table.rows))
    by_name = [{row.case: row for row in table.rows} for table in tables]
    lines = []
    for name in names:
        cells = [name]
        for rows in by_name:
            row = rows.get(name)
            if row is not None and row.state not in {"measured", "unmeasured"}:
                cells.append(row.state)
            elif row is not None and row.instructions is not None and row.median is None:
                cells.append(f"{row.instructions.value:.2f} M instr.  {_share(row.instruction_ratio)} of fp32")
            elif row is None or row.median is None:
                cells.append(UNKNOWN)
            else:
                cells.append(f"{number(row.median.value)} ms  {_speedup(row)}")
        lines.append(cells)
    return header, lines
