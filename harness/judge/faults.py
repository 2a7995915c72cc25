"""Faults of a variant's outputs: parts that are constant although the reference varies, and values that are not finite.

A release gate fails for every fault that the candidate has and its baseline does not, whatever the average distance of the outputs is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.quantize.verify.parts import runs_of, sentence_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from harness.measure.events import FidelityLine
    from harness.quantize.verify.parts import Part

BASELINE = "the baseline"
# Where a part lies: the output, and the axis, or "sample", or None for a whole output.
Place = tuple[str, int | str | None]


@dataclass(frozen=True)
class Faults:
    """The faults of a candidate, as sentences.

    Attributes:
        new: those that the baseline does not have.
        shared: those that the baseline has as well.
        baseline: how many faults the baseline has.
    """

    new: tuple[str, ...]
    shared: tuple[str, ...]
    baseline: int


def compare(baseline: FidelityLine, candidate: FidelityLine) -> Faults:
    """Separate the candidate's own faults from those that the baseline has, too."""
    new, shared = _dead(candidate, _indices(baseline), _of_another_model(candidate))
    more, same = _not_finite(baseline, candidate)
    own = len(_dead(baseline, {}, ())[0]) + sum(count > 0 for count, _, _ in _excess(baseline).values())
    return Faults((*new, *more), (*shared, *same), own)


def _place(part: Part) -> Place:
    return part.output, "sample" if part.kind == "sample" else part.axis


def _range(part: Part) -> range:
    """The slices or samples of a part along its axis; a whole output counts as one."""
    if part.kind == "sample":
        return range(part.sample or 0, (part.sample or 0) + 1)
    return range(part.first or 0, (part.last or 0) + 1)


def _indices(line: FidelityLine) -> dict[Place, set[int]]:
    """The parts of a case's outputs that are constant although the reference varies."""
    found: dict[Place, set[int]] = {}
    for part in line.fidelity.dead:
        found.setdefault(_place(part), set()).update(_range(part))
    return found


def _of_another_model(line: FidelityLine) -> Collection[str]:
    """The outputs that can't be compared with the reference's slice by slice, as those of a model that was trained again."""
    return line.unlike if line.reference == BASELINE else ()


def _dead(line: FidelityLine, known: dict[Place, set[int]], other: Collection[str]) -> tuple[list[str], list[str]]:
    """The constant parts of a case's outputs: the new ones, and the known ones; neighbouring parts are named together."""
    new: list[str] = []
    shared: list[str] = []
    alike: dict[tuple[Place, bool], list[Part]] = {}
    for part in line.fidelity.dead:
        if part.kind == "slice" and part.output in other:
            continue
        alike.setdefault((_place(part), part.fixed), []).append(part)
    for (place, _), parts in alike.items():
        there = {index for part in parts for index in _range(part)}
        # Where the whole output is constant, so is each of its slices.
        before = there if (place[0], None) in known else known.get(place, set())
        for said, indices in ((new, there - before), (shared, there & before)):
            if indices:
                said.append(" ".join(sentence_of(_parts(parts[0], indices), line.reference).split()))
    return new, shared


def _parts(part: Part, indices: Iterable[int]) -> list[Part]:
    """Parts like one, for these slices or samples; neighbouring slices are one part."""
    if part.kind == "slice":
        return [replace(part, first=first, last=last) for first, last in runs_of(sorted(indices))]
    return [replace(part, sample=index) if part.kind == "sample" else part for index in sorted(indices)]


def _excess(line: FidelityLine) -> dict[str, tuple[int, int, int]]:
    """For each output: how many more values are not finite than in the reference, how many are not finite in the reference, and how many values there are."""
    return {
        each.name: (
            max(0, each.nan_count - each.reference_nan_count) + max(0, each.inf_count - each.reference_inf_count),
            each.reference_nan_count + each.reference_inf_count,
            each.values,
        )
        for each in line.fidelity.outputs
    }


def _not_finite(baseline: FidelityLine, candidate: FidelityLine) -> tuple[list[str], list[str]]:
    """The outputs of the candidate with more values that are not finite than the baseline's, and those with as many or fewer."""
    new: list[str] = []
    shared: list[str] = []
    before = _excess(baseline)
    for name, (count, expected, values) in _excess(candidate).items():
        if not count:
            continue
        had, _, _ = before.get(name, (0, 0, 0))
        counts = f"{candidate.reference}: {expected or 'none'}"
        if candidate.reference != BASELINE:
            counts += f"; {BASELINE}: {had + expected or 'none'}"
        words = f"{count + expected} of {values} values of {' '.join(name.split())} are not finite in this variant ({counts})"
        (new if count > had else shared).append(words)
    return new, shared
