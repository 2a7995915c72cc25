"""A run → one row for each case on each device, and one for each variant that could not be made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from harness.errors import SelectionError
from harness.judge.counts import Count, count
from harness.judge.intervals import Estimate, geometric
from harness.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.measure.plan import Case
    from harness.quantize.recipe import Variant
    from harness.records.run import CaseRecord, DeviceRecord, Run

State = Literal["measured", "failed", "unmeasured", "impossible", "unmade"]
REFERENCE = "fp32"
# A quantile is read off the samples only where enough lie beyond it: one in a block of iterations at the least.
NEEDED = {1: 10, 2: 100}


@dataclass(frozen=True)
class Row:
    """A line of the comparison table; None is 'not known'.

    Attributes:
        case: what is measured: the variant, and the settings that vary.
        state: ``measured``, ``failed``, ``unmeasured``; ``impossible`` for a variant that can't exist, ``unmade`` for one that a tool refused.
        size: bytes.
        size_ratio: size over fp32's.
        median: milliseconds, over the blocks' medians; p90 and p99 likewise.
        instructions: per inference, counted by the kernel or by an emulated clock; never a time. cycles likewise.
        instruction_ratio: instructions over fp32's on the same device.
        load: milliseconds to create the session.
        first: milliseconds of the first inference.
        peak_bytes: the largest resident size of any block's process.
        speedup: fp32's block median over this one's, paired by round.
        medians: milliseconds, each block's own, by round: the replicates that the median is estimated from.
        samples: how many of the evaluation samples the figures of accuracy are over; an emulated device computes few.
        accuracy: top-1, of the evaluation data's labels.
        accuracy_drop: fp32's accuracy on the same device minus this one's.
        mse: against the controller's fp32; sqnr_db, max_error, cosine, top1_agreement likewise.
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
    mse: float | None = None
    max_error: float | None = None
    sqnr_db: float | None = None
    identical: bool = False
    cosine: float | None = None
    top1_agreement: float | None = None
    samples: int | None = None
    notes: tuple[str, ...] = ()
    medians: tuple[float, ...] = ()


@dataclass(frozen=True)
class Table:
    """A device's rows.

    Attributes:
        trouble: why there is nothing, or not all; None when the device did everything.
        emulated: what emulates the device; its times are not latencies and are left out.
    """

    device: DeviceRecord
    rows: tuple[Row, ...]
    trouble: str | None = None
    emulated: str | None = None


def tables(run: Run, quantiles: Mapping[tuple[str, str], Mapping[int, tuple[float, ...]]]) -> tuple[Table, ...]:
    """Summarise a run.

    Args:
        run: with its outcomes.
        quantiles: by (device, case name) and round: median, p90 and p99 of a block, in nanoseconds.
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
    return tuple(
        replace(table, rows=tuple(row for row in table.rows if any(fnmatchcase(row.variant, glob) for glob in globs)))
        for table in kept
    )


def _selected(table: Table, selector: str) -> bool:
    entry = table.device.entry
    return selector[1:] in entry.tags if selector.startswith("@") else selector == entry.name


def _table(run: Run, device: DeviceRecord, quantiles: Mapping[tuple[str, str], Mapping[int, tuple[float, ...]]]) -> Table:
    name = device.entry.name
    cases = {case.id: case for case in run.cases}
    records = [record for record in run.results if record.device == name]
    blocks = {record.case: {} if device.emulated else quantiles.get((name, cases[record.case].name), {}) for record in records}
    rows: list[Row] = []
    for variant in run.variants:
        if variant.state != "made":
            state: State = "impossible" if variant.state == "impossible" else "unmade"
            rows.append(Row(name, variant.name, variant.name, state, variant.reason, notes=variant.notes))
            continue
        for record in records:
            if cases[record.case].variant != variant.name:
                continue
            reference = _reference(cases[record.case], cases.values())
            rows.append(_row(run, variant, cases[record.case].name, record, blocks, _record(records, reference)))
    trouble = None
    if device.state == "failed":
        trouble = f"{device.step}: {device.reason}"
    elif device.state == "pending":
        trouble = "the run has not ended there, or was killed"
    elif device.ended in {"max_time", "stopped"}:
        trouble = (
            "the time was up before all rounds were done"
            if device.ended == "max_time"
            else "interrupted before all rounds were done"
        )
    return Table(device, tuple(rows), trouble, device.emulated)


def _reference(case: Case, cases: Iterable[Case]) -> str | None:
    """The fp32 case that differs from a case in nothing else."""
    settings = (case.threads, case.provider, case.dims)
    found = (other for other in cases if other.variant == REFERENCE and (other.threads, other.provider, other.dims) == settings)
    return next((other.id for other in found), None)


def _record(records: Iterable[CaseRecord], case: str | None) -> CaseRecord | None:
    return next((record for record in records if record.case == case), None)


def _row(
    run: Run,
    variant: Variant,
    case: str,
    record: CaseRecord,
    blocks: Mapping[str, Mapping[int, tuple[float, ...]]],
    reference: CaseRecord | None,
) -> Row:
    own = blocks[record.case]
    iterations = {block.round: block.iterations for block in record.blocks}
    base = blocks[reference.case] if reference is not None else {}
    fidelity = record.fidelity
    base_fidelity = reference.fidelity if reference is not None else None
    accuracy = fidelity.accuracy if fidelity is not None else None
    base_accuracy = base_fidelity.accuracy if base_fidelity is not None else None
    fp32_size = run.variant(REFERENCE).size
    peaks = [block.peak_bytes or 0 for block in record.blocks] + [found.peak_bytes or 0 for found in record.counts]
    instructions = count([found.instructions for found in record.counts])
    base_instructions = count([found.instructions for found in reference.counts]) if reference is not None else None
    notes = [*variant.notes, *([fidelity.reason] if fidelity is not None and fidelity.reason else [])]
    return Row(
        device=record.device,
        case=case,
        variant=variant.name,
        state=record.state,
        reason=f"{record.kind}: {record.reason}" if record.kind else record.reason,
        size=variant.size,
        size_ratio=variant.size / fp32_size if variant.size is not None and fp32_size else None,
        median=_level(own, 0, iterations),
        p90=_level(own, 1, iterations),
        p99=_level(own, 2, iterations),
        speedup=_ratio(base, own),
        load=geometric([block.load_ns / 1e6 for block in record.blocks]) if own else None,
        first=geometric([block.first_ns / 1e6 for block in record.blocks]) if own else None,
        instructions=instructions,
        cycles=count([found.cycles for found in record.counts if found.cycles is not None]),
        instruction_ratio=instructions.value / base_instructions.value if instructions and base_instructions else None,
        peak_bytes=max(peaks, default=0) or None,
        accuracy=accuracy,
        accuracy_drop=base_accuracy - accuracy if accuracy is not None and base_accuracy is not None else None,
        mse=fidelity.mse if fidelity else None,
        max_error=fidelity.max_error if fidelity else None,
        sqnr_db=fidelity.sqnr_db if fidelity else None,
        identical=fidelity.identical if fidelity else False,
        cosine=fidelity.cosine if fidelity else None,
        top1_agreement=fidelity.top1_agreement if fidelity else None,
        samples=fidelity.samples if fidelity else None,
        notes=tuple(notes),
        medians=tuple(own[number][0] / 1e6 for number in sorted(own)),
    )


def _ratio(base: Mapping[int, tuple[float, ...]], own: Mapping[int, tuple[float, ...]]) -> Estimate | None:
    """The ratio of two cases' medians over the rounds that both took part in; None if a clock was too coarse to tell."""
    pairs = [(base[number][0], own[number][0]) for number in sorted(own) if number in base]
    return geometric([over / under for over, under in pairs]) if all(under > 0 for _, under in pairs) else None


def _level(blocks: Mapping[int, tuple[float, ...]], index: int, iterations: Mapping[int, int]) -> Estimate | None:
    """A quantile's level in milliseconds, over the blocks; None unless every block has enough samples for it."""
    if any(iterations.get(number, 0) < NEEDED.get(index, 1) for number in blocks):
        return None
    return geometric([blocks[number][index] / 1e6 for number in sorted(blocks)])
