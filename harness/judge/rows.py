"""A run → one row for each case on each device, and one for each variant that could not be made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from harness.errors import SelectionError
from harness.judge import gate, noise
from harness.judge.counts import Count, count
from harness.judge.drift import NONE, Drifts, drifts
from harness.judge.intervals import Estimate, geometric
from harness.judge.shortfall import Shortfall, shortfall
from harness.judge.timing import Timing, inverse, throughputs
from harness.measure.pairs import BASELINE, settings
from harness.quantize.verify.fidelity import Fidelity
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.judge.check import Check
    from harness.measure.events import FidelityLine
    from harness.measure.plan import Case
    from harness.quantize.recipe import Variant
    from harness.records.run import CaseRecord, DeviceRecord, Run
    from harness.records.samples import LaunchKey

State = Literal["measured", "failed", "unmeasured", "impossible", "unmade"]
REFERENCE = "fp32"
NOT_COMPARED = Fidelity()
QUANTIZING = ("QuantizeLinear", "DequantizeLinear", "Cast")


@dataclass(frozen=True)
class Row:
    """A line of the comparison table; None is 'not known'.

    Attributes:
        case: what is measured: the variant, and the settings that vary.
        state: ``measured``, ``failed``, ``unmeasured``; ``impossible`` for a variant that can't exist, ``unmade`` for one that a tool refused.
        size: bytes.
        size_ratio: size over fp32's.
        median: milliseconds, over the blocks' medians; p90 and p99 over the processes'.
        instructions: per inference, counted by the kernel or by an emulated clock; never a time. cycles likewise.
        instruction_ratio: instructions over fp32's on the same device.
        load: milliseconds to create the session, where it is a process's first; first: of the first inference there.
        peak_bytes: the largest resident size of a process that held this session alone.
        speedup: fp32's latency over this one's, side by side in the same processes.
        medians: milliseconds, each process's own, by round.
        throughput: inferences per second, by the number of sessions at once.
        graph: a letter for what onnxruntime runs after its optimizations; the same letter on a device means the same work.
        nodes: how many nodes that has.
        unfused: how many of them are QuantizeLinear or DequantizeLinear; casts: Cast.
        left: the names of the first of these.
        samples: how many of the evaluation samples the figures of accuracy are over; an emulated device computes few.
        accuracy: top-1, of the evaluation data's labels.
        accuracy_drop: fp32's accuracy on the same device minus this one's.
        rung: how far the model was prepared for the recipe, on the ladder of preparation; None for what takes it as it is.
        fidelity: of the outputs, against the controller's fp32; without figures where they were not compared.
        reference: what the outputs were compared with: fp32, or another model where no fp32 is known.
        metrics: the study's own figures, by name; metrics_better: which way these are better.
    """

    device: str
    case: str
    variant: str
    state: State
    reason: str | None = None
    size: int | None = None
    size_ratio: float | None = None
    median: Estimate | None = None
    p90: Estimate | None = None
    p99: Estimate | None = None
    speedup: Estimate | None = None
    instructions: Count | None = None
    cycles: Count | None = None
    instruction_ratio: float | None = None
    load: Estimate | None = None
    first: Estimate | None = None
    peak_bytes: int | None = None
    accuracy: float | None = None
    accuracy_drop: float | None = None
    fidelity: Fidelity = NOT_COMPARED
    reference: str | None = None
    samples: int | None = None
    notes: tuple[str, ...] = ()
    medians: tuple[float, ...] = ()
    throughput: tuple[tuple[int, Estimate], ...] = ()
    graph: str | None = None
    nodes: int | None = None
    unfused: int | None = None
    casts: int | None = None
    left: tuple[str, ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()
    metrics_better: Literal["higher", "lower"] | None = None
    rung: str | None = None


@dataclass(frozen=True)
class Pair:
    """Two cases that a claim or two runtimes compare; 2 means that ``second`` is twice as fast as ``first``.

    Attributes:
        separate_processes: measured in separate processes that took turns, not side by side.
    """

    first: str
    second: str
    ratio: Estimate | None
    separate_processes: bool = False


@dataclass(frozen=True)
class Table:
    """A device's rows.

    Attributes:
        trouble: why there is nothing, or not all; None when the device did everything.
        shortfall: what is less precise than asked, because the time or the rounds were used up.
        emulated: what emulates the device; its times are not latencies and are left out.
        pairs: what was measured side by side beside the speed-ups.
        remarks: what happened while measuring.
        checks: of a release gate; drifts: what became of its baseline since it was stored.
        noise: how far the replicates of a pair lie apart, as a share; None if none was measured often enough.
    """

    device: DeviceRecord
    rows: tuple[Row, ...]
    trouble: str | None = None
    shortfall: Shortfall | None = None
    emulated: str | None = None
    pairs: tuple[Pair, ...] = ()
    remarks: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    drifts: Drifts = NONE
    noise: float | None = None


def tables(run: Run, quantiles: Mapping[LaunchKey, tuple[float, ...]]) -> tuple[Table, ...]:
    """Summarise a run.

    Args:
        run: with its outcomes.
        quantiles: p90 and p99 of each process, in nanoseconds.
    """
    return tuple(_table(run, device, quantiles) for device in run.devices)


def select(found: Sequence[Table], devices: Sequence[str], globs: Sequence[str]) -> tuple[Table, ...]:
    """Keep the tables of some devices and the rows of some variants.

    Args:
        found: all tables of a run.
        devices: names and ``@tags``; none keeps all.
        globs: of variants; none keeps all.

    Raises:
        SelectionError: if a selector matches nothing.
    """
    for selector in devices:
        if not any(_selected(table, selector) for table in found):
            message = f"no device '{selector}' in this run; {nearest(selector, [table.device.entry.name for table in found])}"
            raise SelectionError(message)
    for glob in globs:
        names = list(dict.fromkeys(row.variant for table in found for row in table.rows))
        if not any(fnmatchcase(name, glob) for name in names):
            message = f"no variant matches '{glob}' in this run; {nearest(glob, names)}"
            raise SelectionError(message)
    kept = [table for table in found if not devices or any(_selected(table, selector) for selector in devices)]
    if not globs:
        return tuple(kept)
    return tuple(_with_variants(table, globs) for table in kept)


def _with_variants(table: Table, globs: Sequence[str]) -> Table:
    """Keep the rows of some variants, and what a gate says of them; a baseline's go with the candidate's."""

    def wanted(variant: str) -> bool:
        return any(fnmatchcase(variant.removeprefix(BASELINE), glob) for glob in globs)

    rows = tuple(row for row in table.rows if wanted(row.variant))
    shown = {row.case for row in rows}
    return replace(table, rows=rows, checks=tuple(check for check in table.checks if check.case in shown))


def _selected(table: Table, selector: str) -> bool:
    entry = table.device.entry
    return selector[1:] in entry.tags if selector.startswith("@") else selector == entry.name


def _table(run: Run, device: DeviceRecord, quantiles: Mapping[LaunchKey, tuple[float, ...]]) -> Table:
    name = device.entry.name
    cases = {case.id: case for case in run.cases}
    names = {case.id: case.name for case in run.cases}
    records = {record.case: record for record in run.results if record.device == name}
    timing = Timing(name, () if device.emulated else run.launches, quantiles, names)
    letters = _letters(records.values())
    rows: list[Row] = []
    for variant in run.variants:
        if variant.state != "made":
            state: State = "impossible" if variant.state == "impossible" else "unmade"
            rows.append(Row(name, variant.name, variant.name, state, variant.reason, notes=variant.notes))
            continue
        for record in records.values():
            if cases[record.case].variant == variant.name:
                reference = records.get(_reference(cases[record.case], cases.values()) or "")
                rows.append(_row(run, variant, names[record.case], record, timing, reference, letters))
    shown = {unit for row in records for unit in [(_reference(cases[row], cases.values()), row)]}
    separate = {each.cases for each in device.separate_processes}
    pairs = [
        Pair(names[unit[0]], names[unit[1]], timing.ratio(unit), unit in separate)
        for unit in run.units
        if len(unit) > 1 and unit not in shown and not device.emulated and run.baseline is None
    ]
    remarks = _remarks(run, device, timing, names)
    short = shortfall(run, device, timing, names, REFERENCE)
    checks = gate.checks(run, device, quantiles)
    # A baseline's cases are stored without the mark that tells them from the candidate's here.
    stored = {case.id: case.name.removeprefix(BASELINE) for case in run.cases}
    loud = noise.of_run(timing, run.units)
    changed = drifts(run, device, timing, stored, loud)
    return Table(
        device, tuple(rows), _trouble(device), short, device.emulated, tuple(pairs), tuple(remarks), checks, changed, loud
    )


def _trouble(device: DeviceRecord) -> str | None:
    """Why there is nothing, or not all."""
    if device.state == "failed":
        return f"{device.step}: {device.reason}"
    if device.state == "pending":
        return "the run has not ended there, or was killed: harness run --resume goes on with it"
    return "interrupted before all rounds were done" if device.ended == "stopped" else None


def _remarks(run: Run, device: DeviceRecord, timing: Timing, names: Mapping[str, str]) -> list[str]:
    """What happened while measuring that a reader must know."""
    found = [*timing.disturbances(), *timing.unsteady()]
    reasons: dict[str, list[str]] = {}
    for separate in device.separate_processes:
        reasons.setdefault(separate.reason, []).append(" with ".join(names[case] for case in separate.cases))
    for reason, pairs in reasons.items():
        found.append(f"{', '.join(pairs)}: measured in processes that alternate, not side by side: {reason}")
    if device.lease_lacking is not None:
        found.append(f"another account could measure there at the same time: {device.lease_lacking}")
    governor = device.governor
    if governor is not None and governor.reason:
        found.append(f"the governor could not be set to {governor.governor}: {governor.reason}")
    elif governor is not None:
        found.append(f"the governor was {governor.governor} while measuring, {' and '.join(governor.was)} before and after")
    kinds = device.facts.core_kinds if device.facts else []
    if len(kinds) > 1 and device.entry.cpus is None:
        cores = "; ".join(", ".join(map(str, kind.cpus)) for kind in kinds)
        found.append(
            f"its cores are of {len(kinds)} kinds ({cores}), and nothing keeps a session on one: set cpus for it in devices.toml"
        )
    if run.study.measure.duet == "calls" and timing.launches:
        found.append(
            "measured call by call (measure.duet): each model finds the other's data in the caches; levels are those of cold calls"
        )
    return found


def _letters(records: Iterable[CaseRecord]) -> dict[str, str]:
    """A letter for each fingerprint, in the order of the cases; after Z come AA, AB, …."""
    found: dict[str, str] = {}
    for record in records:
        if record.graph is not None and record.graph.fingerprint not in found:
            first, second = divmod(len(found), 26)
            found[record.graph.fingerprint] = (chr(64 + first) if first else "") + chr(65 + second)
    return found


def _reference(case: Case, cases: Iterable[Case]) -> str | None:
    """The fp32 case that differs from a case in nothing else."""
    return next((other.id for other in cases if other.variant == REFERENCE and settings(other) == settings(case)), None)


def _row(
    run: Run,
    variant: Variant,
    case: str,
    record: CaseRecord,
    timing: Timing,
    reference: CaseRecord | None,
    letters: Mapping[str, str],
) -> Row:
    line = record.fidelity
    fidelity = line.fidelity if line is not None else NOT_COMPARED
    accuracy = fidelity.top1_accuracy
    base_accuracy = (
        reference.fidelity.fidelity.top1_accuracy if reference is not None and reference.fidelity is not None else None
    )
    fp32_size = next((each.size for each in run.variants if each.name == REFERENCE), None)
    instructions = count([found.instructions for found in record.counts])
    base_instructions = count([found.instructions for found in reference.counts]) if reference is not None else None
    speedup, conflict = _speedup(timing, record.case, reference)
    notes = [
        *variant.notes,
        *(_of_outputs(line) if line is not None else []),
        *([conflict] if conflict else []),
        *record.troubles,
    ]
    timed = not run.device(record.device).emulated
    ops = {op: sum(each.count for each in record.graph.ops if each.op == op) for op in QUANTIZING} if record.graph else {}
    return Row(
        device=record.device,
        case=case,
        variant=variant.name,
        state=record.state,
        reason=f"{record.kind}: {record.reason}" if record.kind else record.reason,
        size=variant.size,
        size_ratio=variant.size / fp32_size if variant.size is not None and fp32_size else None,
        median=timing.level(record.case),
        p90=timing.quantile(record.case, 0),
        p99=timing.quantile(record.case, 1),
        speedup=speedup,
        load=geometric([value / 1e6 for value in record.load_ns]) if timed else None,
        first=geometric([value / 1e6 for value in record.first_ns]) if timed else None,
        instructions=instructions,
        cycles=count([found.cycles for found in record.counts if found.cycles is not None]),
        instruction_ratio=instructions.value / base_instructions.value if instructions and base_instructions else None,
        peak_bytes=record.peak_bytes,
        accuracy=accuracy,
        accuracy_drop=base_accuracy - accuracy if accuracy is not None and base_accuracy is not None else None,
        fidelity=fidelity,
        reference=line.reference if line and fidelity.outputs else None,
        metrics=tuple(line.metrics.items()) if line else (),
        metrics_better=run.study.model.metric_better if line and line.metrics else None,
        samples=line.samples if line else None,
        notes=tuple(notes),
        medians=timing.medians(record.case),
        throughput=throughputs((found.sessions, found.per_second) for found in record.throughput),
        graph=letters[record.graph.fingerprint] if record.graph else None,
        nodes=record.graph.nodes if record.graph else None,
        unfused=ops["QuantizeLinear"] + ops["DequantizeLinear"] if ops else None,
        casts=ops["Cast"] if ops else None,
        left=tuple(record.graph.left) if record.graph else (),
        rung=variant.preparation.rung if variant.preparation else None,
    )


def _of_outputs(line: FidelityLine) -> list[str]:
    """What a reader must know of a case's outputs: which of several the SQNR is of, what is broken in them, why figures are missing."""
    figures = line.fidelity
    known = {each.name: each.sqnr_db for each in figures.outputs if each.sqnr_db is not None}
    named = len(figures.outputs) > 1 and figures.sqnr_db is not None and not figures.identical
    worst = [name for name, sqnr in known.items() if sqnr == figures.sqnr_db] if named else []
    notes = [f"the SQNR is that of {worst[0]}, the worst of {len(figures.outputs)} outputs"] if worst else []
    return [*line.notes, *notes, *([line.reason] if line.reason else [])]


def _speedup(timing: Timing, case: str, reference: CaseRecord | None) -> tuple[Estimate | None, str | None]:
    """fp32's latency over a case's, and a note where the levels say otherwise."""
    if reference is None:
        return None, None
    if reference.case == case:
        level = timing.level(case)
        return (Estimate(1.0, 1.0, 1.0, level.n, level.processes) if level else None), None
    found = timing.ratio((reference.case, case)) or ((back := timing.ratio((case, reference.case))) and inverse(back))
    return found, timing.conflict((reference.case, case), found)
