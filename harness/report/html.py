"""report/index.html: a page to read, with its style sheet and charts beside it.

Jenkins serves it with ``default-src 'none'; img-src 'self'; style-src 'self'``: no scripts, no styles within, no data: images.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.report import charts, columns, gate, notes, numbers, overview, sheets
from harness.text import sanitize

if TYPE_CHECKING:
    from harness.judge.judgement import Judgement
    from harness.judge.table import Table
    from harness.records.run import DeviceRecord, Run

STYLE = "report.css"


def render(judgement: Judgement) -> bytes:
    """Write the page; what devices and models say is escaped."""
    pages = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    run, tables = judgement.run, judgement.tables
    header, lines = overview.overview(tables)
    page = pages.get_template("index.html").render(
        run=run,
        outcome=judgement.outcome,
        tables=tables,
        style=STYLE,
        context=_context(run),
        header=header,
        lines=lines,
        disagreements=judgement.disagreements,
        cells=_cells,
        columns=columns,
        heading=notes.heading,
        notes=notes.notes,
        sheets=sheets.sheets(judgement),
        gate=gate.verdict(judgement) if judgement.is_gate else None,
        charts=charts,
        facts=_facts,
    )
    return page.encode()


def beside(judgement: Judgement) -> dict[str, bytes]:
    """Render what the page refers to.

    Returns:
        Contents by file name.
    """
    style = resources.files("harness.report").joinpath("templates", STYLE).read_bytes()
    return {STYLE: style} | {charts.name(table): charts.render(table) for table in judgement.tables if charts.drawable(table)}


def _shown(value: object) -> object:
    """A value as the page shows it, escaped; the output of a macro is already markup."""
    return sanitize(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _cells(table: Table) -> list[list[str]]:
    """The comparison table's cells."""
    return [[column.text(row) for column in columns.of(table)] for row in table.rows]


def _context(run: Run) -> list[tuple[str, str]]:
    """What the run was measured with."""
    made = run.versions
    return [
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S %Z}"),
        ("finished", f"{run.finished:%Y-%m-%d %H:%M:%S %Z}" if run.finished else numbers.UNKNOWN),
        ("model", f"{numbers.size(run.model_size)}, sha256 {run.model_sha256}"),
        ("variants", f"{sum(variant.state == 'made' for variant in run.variants)} of {len(run.variants)} could be made"),
        ("made by", f"harness {made.harness}, onnxruntime {made.onnxruntime}, onnx {made.onnx}, numpy {made.numpy}, Python {made.python}"),
        ("seed", str(run.seed)),
        ("build", run.build or numbers.UNKNOWN),
        *([("baseline", run.baseline.described)] if run.baseline else []),
    ]  # fmt: skip


def _facts(device: DeviceRecord) -> list[tuple[str, str]]:
    """The facts of a device, without its address."""
    entry, said = device.entry, device.facts
    known: dict[str, object] = {
        "transport": entry.transport,
        "tags": ", ".join(entry.tags),
        "pinned to cores": ", ".join(map(str, entry.cpus or [])),
    }
    if said is not None:
        speed, heat = said.frequencies_khz, said.temperature_celsius
        known |= {
            "processor": said.cpu_model,
            "architecture": said.arch,
            "cores": said.cores,
            "board": said.board,
            "governor": said.governor,
            "frequencies of core 0": " … ".join(f"{khz / 1e6:.2f} GHz" for khz in (speed.min, speed.max) if khz),
            "frequency at the start": f"{speed.current / 1e6:.2f} GHz" if speed.current else None,
            "temperature at the start": None if heat is None else f"{heat:.0f} °C",
            "memory": f"{said.memory_bytes / 1e9:.1f} GB" if said.memory_bytes else None,
            "kernel": said.kernel,
            "C library": said.libc,
            "Python": said.python,
            "numpy": said.numpy,
            "onnxruntime": said.onnxruntime.version or said.onnxruntime.error,
            "providers": ", ".join(said.onnxruntime.providers),
            "emulated": f"{said.emulated.by}: {said.emulated.evidence}" if said.emulated else None,
            "kinds of cores": "; ".join(", ".join(map(str, kind.cpus)) for kind in said.core_kinds)
            if len(said.core_kinds) > 1
            else None,
            "instructions": f"not counted: {said.uncountable}" if said.uncountable else "counted by the kernel",
            "processor features": " ".join(said.features),
        }
    known |= {
        "rounds": device.rounds or None,
        "files": device.files,
        "sent": None if device.sent_bytes is None else numbers.size(device.sent_bytes),
    }
    return [(title, str(value)) for title, value in known.items() if value not in (None, "")]
