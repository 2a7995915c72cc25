"""A row of a table: one case on one device, or one variant that could not be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.judge.counts import Count, count
from harness.judge.intervals import Estimate, geometric
from harness.judge.timing import Timing, inverse, throughputs
from harness.measure.pairs import REFERENCE, settings
from harness.quantize.verify.fidelity import Fidelity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.measure.events import FidelityLine
    from harness.measure.plan import Case
    from harness.quantize.recipe import Variant
    from harness.records.run import CaseRecord, Run

State = Literal["measured", "failed", "unmeasured", "impossible", "unmade"]
NOT_COMPARED = Fidelity()
# So many QuantizeLinear and DequantizeLinear remain in a graph that is fused throughout: at its input and at its output.
FUSED = 4
# Milliseconds; a latency below it includes Python's own time for each call.
SMALL = 0.5
QUANTIZING = ("QuantizeLinear", "DequantizeLinear", "Cast")


@dataclass(frozen=True)
class Row:
    """A row of the comparison table; None means unknown.

    Attributes:
        case: the name of what is measured: the variant, and the settings that vary.
        id: of the case in the run; None for a variant that was not made.
        state: ``measured``, ``failed``, ``unmeasured``; ``impossible`` for a variant that can't exist, ``unmade`` for one that a tool refused.
        size: bytes.
        size_ratio: size relative to fp32's.
        median: milliseconds, over the blocks' medians; p90 and p99 over the processes'.
        instructions: per inference, counted by the kernel or by an emulated clock; never a time. cycles likewise.
        instruction_ratio: instructions over fp32's on the same device.
        load: milliseconds time to create the session, if it is the first of its process; first: of the first inference there.
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
    id: str | None = None

    @property
    def is_unfused(self) -> bool:
        """Whether onnxruntime left QuantizeLinear and DequantizeLinear nodes between operators."""
        return self.unfused is not None and self.unfused > FUSED

    @property
    def includes_overhead(self) -> bool:
        """Whether the latency is so small that Python's own time for each call shows in it."""
        return self.median is not None and self.median.value < SMALL


def rows(run: Run, device: str, timing: Timing) -> Iterator[Row]:
    """Yield the rows of a device: one for each of its cases, and one for each variant that could not be made."""
    cases = {case.id: case for case in run.cases}
    records = {record.case: record for record in run.results if record.device == device}
    letters = _letters(records.values())
    for variant in run.variants:
        if variant.state != "made":
            state: State = "impossible" if variant.state == "impossible" else "unmade"
            yield Row(device, variant.name, variant.name, state, variant.reason, notes=variant.notes)
            continue
        for record in records.values():
            case = cases[record.case]
            if case.variant == variant.name:
                reference = records.get(reference_of(case, run.cases) or "")
                yield _row(run, variant, case, record, timing, reference, letters)


def _letters(records: Iterable[CaseRecord]) -> dict[str, str]:
    """A letter for each fingerprint, in the order of the cases; after Z come AA, AB, …."""
    found: dict[str, str] = {}
    for record in records:
        if record.graph is not None and record.graph.fingerprint not in found:
            first, second = divmod(len(found), 26)
            found[record.graph.fingerprint] = (chr(64 + first) if first else "") + chr(65 + second)
    return found


def reference_of(case: Case, cases: Iterable[Case]) -> str | None:
    """The fp32 case with the same settings as a case."""
    return next((other.id for other in cases if other.variant == REFERENCE and settings(other) == settings(case)), None)


def _row(
    run: Run,
    variant: Variant,
    case: Case,
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
        case=case.name,
        id=case.id,
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
    """Notes on a case's outputs: the output that the SQNR belongs to, faults, and why figures are missing."""
    figures = line.fidelity
    known = {each.name: each.sqnr_db for each in figures.outputs if each.sqnr_db is not None}
    named = len(figures.outputs) > 1 and figures.sqnr_db is not None and not figures.identical
    worst = [name for name, sqnr in known.items() if sqnr == figures.sqnr_db] if named else []
    notes = [f"the SQNR is that of {worst[0]}, the worst of {len(figures.outputs)} outputs"] if worst else []
    return [*filter(None, [line.uncompared]), *line.notes, *notes, *filter(None, [line.reason])]


def _speedup(timing: Timing, case: str, reference: CaseRecord | None) -> tuple[Estimate | None, str | None]:
    """The speed-up of a case over fp32, and a note if the levels contradict it."""
    if reference is None:
        return None, None
    if reference.case == case:
        level = timing.level(case)
        return (Estimate(1.0, 1.0, 1.0, level.n, level.processes) if level else None), None
    found = timing.ratio((reference.case, case)) or ((back := timing.ratio((case, reference.case))) and inverse(back))
    return found, timing.conflict((reference.case, case), found)
