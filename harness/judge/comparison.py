"""Compare runs, as far as their contexts allow.

Levels of two sessions differ by several per cent without any cause in the models, so a change between runs is told through what both measured
side by side: the same fp32 file. Without it, only the levels stand there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.judge import drift
from harness.judge.intervals import Estimate, quotient
from harness.measure.pairs import REFERENCE
from harness.records import context
from harness.text import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.judgement import Judgement
    from harness.judge.row import Row
    from harness.judge.table import Table
    from harness.records.context import Difference
    from harness.records.run import Run

SETTINGS = ("duet", "block", "warmup", "rebuilds")
NOISE = "noise: the spread of the replicates of a pair"


@dataclass(frozen=True)
class Cell:
    """A case in one run.

    Attributes:
        level: its median in milliseconds; speedup: over fp32 in its run.
        change: of its latency since the first run, through fp32, which both measured side by side with it; None where that is not known.
        reason: why it is not.
        same_file: whether its model file is that of the first run.
    """

    level: Estimate | None
    speedup: Estimate | None
    instructions: float | None
    change: Estimate | None = None
    reason: str | None = None
    same_file: bool = True


@dataclass(frozen=True)
class Comparison:
    """A device over several runs.

    Attributes:
        cases: by name, one cell for each run; None where a run has no such row.
        differences: for each run after the first, what differs in its context and settings.
        forced: whether differences that change the meaning were let pass.
    """

    device: str
    cases: dict[str, tuple[Cell | None, ...]]
    differences: tuple[tuple[Difference, ...], ...]
    forced: bool


def compare(runs: Sequence[Judgement], *, force: bool) -> tuple[Comparison, ...]:
    """Compare runs, device by device; the first is what the others are compared with.

    Raises:
        UsageError: if they share no device, or contexts differ in what changes the meaning and it is not forced.
    """
    by_name = [{table.device.entry.name: table for table in each.tables} for each in runs]
    shared = [name for name in by_name[0] if all(name in each for each in by_name[1:])]
    if not shared:
        devices = "; ".join(f"{each.run.id}: {', '.join(names)}" for each, names in zip(runs, by_name, strict=True))
        message = f"the runs share no device: {devices}"
        raise UsageError(message)
    found = []
    refusals = []
    for name in shared:
        tables = [each[name] for each in by_name]
        differences = tuple(
            _differences(runs[0].run, each.run, tables[0], table) for each, table in zip(runs[1:], tables[1:], strict=True)
        )
        decisive = [
            (later.run, each) for later, some in zip(runs[1:], differences, strict=True) for each in some if each.decisive
        ]
        refusals += [f"{name}: {run.id}: {each}" for run, each in decisive]
        found.append(Comparison(name, _cases(runs, tables), differences, bool(decisive)))
    if refusals and not force:
        message = (
            f"the runs can't be compared, because their contexts differ: {'; '.join(refusals)}; "
            "--force compares them anyway, and says so; 'harness check' measures both sides in one session"
        )
        raise UsageError(message)
    return tuple(found)


def _differences(before: Run, now: Run, one: Table, other: Table) -> tuple[Difference, ...]:
    """The differences between contexts and settings, field by field."""
    first, second = one.device.context, other.device.context
    found = list(context.differences(first, second)) if first and second else []
    for key in SETTINGS:
        was, has = getattr(before.study.measure, key), getattr(now.study.measure, key)
        if was != has:
            found.append(context.Difference(f"measure.{key}", str(was), str(has), decisive=True))
    if one.noise is not None and other.noise is not None and drift.is_noisier(one.noise, other.noise):
        found.append(context.Difference(NOISE, f"±{percent(one.noise)}", f"±{percent(other.noise)}", decisive=False))
    if before.model_sha256 != now.model_sha256:
        found.append(context.Difference("model", before.model_sha256[:12], now.model_sha256[:12], decisive=False))
    return tuple(found)


def _cases(runs: Sequence[Judgement], tables: Sequence[Table]) -> dict[str, tuple[Cell | None, ...]]:
    rows = [{row.case: row for row in table.rows if row.state == "measured"} for table in tables]
    names = dict.fromkeys(name for each in rows for name in each)
    return {
        name: tuple(
            _cell(runs[0].run, judgement.run, rows[0].get(name), each[name]) if name in each else None
            for judgement, each in zip(runs, rows, strict=True)
        )
        for name in names
    }


def _cell(before: Run, now: Run, first: Row | None, row: Row) -> Cell:
    count = row.instructions.value if row.instructions else None
    cell = Cell(row.median, row.speedup, count)
    if first is None or before.id == now.id:
        return cell
    same = _sha(before, first.variant) == _sha(now, row.variant)
    if _sha(before, REFERENCE) is None or _sha(before, REFERENCE) != _sha(now, REFERENCE):
        return Cell(row.median, row.speedup, count, None, "the two runs have no fp32 model in common", same)
    if row.variant == REFERENCE:
        return Cell(row.median, row.speedup, count, None, "this is the case that the others are compared through", same)
    if first.speedup is None or row.speedup is None:
        return Cell(row.median, row.speedup, count, None, "it was not measured side by side with fp32", same)
    return Cell(row.median, row.speedup, count, quotient(first.speedup, row.speedup), None, same)


def _sha(run: Run, variant: str) -> str | None:
    return next((each.sha256 for each in run.variants if each.name == variant), None)
