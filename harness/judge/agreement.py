"""Find variants whose outputs for the same inputs differ between devices, with the likely reason."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from harness.measure.pairs import REFERENCE
from harness.quantize.verify.parts import is_single, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.judge.row import Row
    from harness.judge.table import Table
    from harness.quantize.recipe import Recipe
    from harness.records.run import DeviceRecord, Run

# Decibels; half the noise or twice as much. Over different samples, which an emulated device computes fewer of, four times.
NEAR, NEAR_OTHER_SAMPLES = 3.0, 6.0
VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
HALF = {"fphp", "asimdhp", "avx512_fp16"}


def disagreements(run: Run, tables: Sequence[Table]) -> tuple[str, ...]:
    """Compare every two devices, case by case.

    Returns:
        A sentence for each case and pair of devices that compute something else.
    """
    return tuple(line for pair in itertools.combinations(tables, 2) for line in _between(run, *pair))


def _between(run: Run, one: Table, other: Table) -> Iterator[str]:
    rows = {row.id: row for row in other.rows if row.state == "measured"}
    for row in one.rows:
        beside = rows.get(row.id)
        if beside is None or row.state != "measured":
            continue
        words = _difference(row, beside)
        if words is not None:
            recipe = run.variant(row.variant).recipe
            yield f"{row.case}: {words}; {_reason(recipe, one.device, other.device)}"


def _difference(row: Row, other: Row) -> str | None:
    """The difference as a sentence, or None."""
    alike = row.samples == other.samples
    if alike and row.accuracy is not None and other.accuracy is not None and row.accuracy != other.accuracy:
        return f"top-1 is {100 * row.accuracy:.2f} % on {row.device}, but {100 * other.accuracy:.2f} % on {other.device}"
    if alike and (broken := _broken(row, other) or _broken(other, row)):
        return broken
    one, two = row.fidelity.sqnr_db, other.fidelity.sqnr_db
    if one is None or two is None or REFERENCE in {row.variant, other.variant}:
        return None
    if abs(one - two) <= (NEAR if alike else NEAR_OTHER_SAMPLES):
        return None
    return f"SQNR is {one:.1f} dB on {row.device} and {two:.1f} dB on {other.device}"


def _broken(row: Row, other: Row) -> str | None:
    """The faults that only one device's outputs have: constant parts, or values that are not finite."""
    here, there = row.fidelity, other.fidelity
    if not there.outputs:
        return None
    if here.dead and not there.dead:
        first = [
            part
            for part in here.dead
            if (part.output, part.axis, part.fixed) == (here.dead[0].output, here.dead[0].axis, here.dead[0].fixed)
        ]
        return f"{name_of(first)} {'is' if is_single(first) else 'are'} constant on {row.device} and {'varies' if is_single(first) else 'vary'} on {other.device}"
    count, beside = here.nan_count + here.inf_count, there.nan_count + there.inf_count
    if count and not beside:
        return f"{count} of {here.values} output values are not finite on {row.device}, and all are on {other.device}"
    return None


def _reason(recipe: Recipe, *devices: DeviceRecord) -> str:
    """The likely reason, from the processors' features."""
    known = [(device.entry.name, device.facts) for device in devices if device.facts is not None]
    if recipe.method == "fp16":
        halves = [name for name, facts in known if HALF & set(facts.features)]
        if len(halves) == 1:
            return f"likely because {halves[0]} computes in half precision, and the other device converts to float32"
    lacking = [name for name, facts in known if facts.arch in {"x86_64", "AMD64"} and not VNNI & set(facts.features)]
    if recipe.weight == "QInt8" and recipe.activation != "QInt8" and lacking and not recipe.reduce_range:
        return (
            f"likely because {' and '.join(lacking)} has no VNNI, so sums of two products saturate at 16 bits "
            "(see onnxruntime's page on quantization); reduce_range = true avoids this"
        )
    versions = {facts.onnxruntime.version for _, facts in known}
    if len(versions) > 1:
        return f"they run different versions of onnxruntime: {', '.join(sorted(version or 'none' for version in versions))}"
    return "their kernels round or accumulate differently"
