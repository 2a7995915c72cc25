"""The columns of the comparison table; every format for readers shows these."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.report.numbers import UNKNOWN, estimate, millions, number, percent, points, share, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.judge.intervals import Estimate
    from harness.judge.row import Row
    from harness.judge.table import Table

# Stands beside an SQNR that does not tell the whole; the lines below a table do.
BROKEN = "!"


class Column(NamedTuple):
    """A column: its title, what it shows of a row, and what it means."""

    title: str
    text: Callable[[Row], str]
    meaning: str


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


def speedup(row: Row) -> str:
    """How many times faster than fp32 a row is."""
    if row.state != "measured":
        return UNKNOWN
    # fp32 against itself is no measurement.
    return "1×" if row.speedup and row.speedup.low == row.speedup.high == 1 else estimate(row.speedup, "×")


def _no_latency(row: Row) -> str:
    return row.state if row.state != "measured" else "not measured: emulated"


def _level(row: Row, found: Estimate | None) -> str:
    """A quantile as text; empty for a case that failed after some rounds."""
    return number(found.value) if found is not None and row.state == "measured" else UNKNOWN


def _graph(row: Row) -> str:
    """The letter of a row's graph, with the remaining Q/DQ and Cast nodes."""
    if row.graph is None:
        return UNKNOWN
    left = [f"{count} {what}" for count, what in ((row.unfused, "Q/DQ"), (row.casts, "Cast")) if count]
    return ", ".join([row.graph, *left])


IDENTITY = (
    Column("variant", lambda row: row.case, "how the model was made, and the session settings that differ between cases"),
    Column("size", lambda row: size(row.size), "size of the model file"),
    Column("of fp32", lambda row: UNKNOWN if row.size_ratio is None else f"{row.size_ratio:.2f}", "size relative to fp32's"),
)
TIMES = (
    Column(
        "median ms",
        _median,
        "of an inference, with its 95 % interval (Student's t over rebuilds of the session, or over processes if those differ more)",
    ),
    Column("p90", lambda row: _level(row, row.p90), "90th percentile in milliseconds, averaged over launches"),
    Column("p99", lambda row: _level(row, row.p99), "99th percentile in milliseconds, averaged over launches"),
    Column(
        "speed-up",
        speedup,
        "fp32's latency divided by this case's, measured side by side in the same launches, with its 95 % interval",
    ),
)
STARTS = (
    Column("load ms", lambda row: _level(row, row.load), "time to create the session, if it is the first of its process"),
    Column("first ms", lambda row: _level(row, row.first), "time of the first inference of such a session"),
)
NO_TIMES = (Column("latency", _no_latency, "the device is emulated, so its times mean nothing"),)
MEMORY = Column("memory", lambda row: size(row.peak_bytes), "peak memory of a process with only this session (resident size)")
GRAPH = Column(
    "graph",
    _graph,
    "cases with the same letter run the same operators after onnxruntime's optimizations; then the remaining Q/DQ and Cast nodes",
)
COUNTS = (
    Column(
        "M instr.",
        lambda row: millions(row.instructions),
        "millions of instructions per inference; ± half the spread over launches",
    ),
    Column("instr. of fp32", lambda row: share(row.instruction_ratio), "instructions relative to fp32's on this device"),
)
CYCLES = (
    Column("M cycles", lambda row: millions(row.cycles), "millions of cycles per inference in user space, counted by the kernel"),
)
ACCURACY = (
    Column("top-1", lambda row: percent(row.accuracy), "accuracy on the evaluation data, computed on this device"),
    Column("drop", lambda row: points(row.accuracy_drop), "fp32's accuracy on this device minus this one's"),
    Column(
        "MSE", lambda row: number(row.fidelity.mse), "mean squared error of the outputs, compared with fp32's on the controller"
    ),
    Column(
        "SQNR",
        _sqnr,
        "signal-to-quantization-noise ratio of the worst output, compared with fp32's on the controller; !: parts of the outputs are constant or not finite",
    ),
)
DIVERGENCE = Column(
    "KL",
    lambda row: number(row.fidelity.kl_divergence),
    "Kullback-Leibler divergence of the class probabilities from fp32's, in nats",
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
        f"inferences per second of {sessions} concurrent session{'s' if sessions > 1 else ''}, with its 95 % interval",
    )


def everything(tables: Sequence[Table]) -> tuple[Column, ...]:
    """The columns of all tables, each once, for a legend."""
    return tuple({column.title: column for table in tables for column in of(table)}.values())
