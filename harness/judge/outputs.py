"""The gate's checks of the outputs for the evaluation data: figures must not fall, and no new faults may appear."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.judge import faults

if TYPE_CHECKING:
    from harness.judge.check import Check
    from harness.measure.events import FidelityLine
    from harness.study.claims_and_gate import Metric

# Higher is better, and a change is a difference.
FIGURES: tuple[Metric, ...] = ("accuracy", "top1_agreement", "sqnr")
# Why there is no figure although the outputs were compared.
LACKS: dict[Metric, str] = {
    "accuracy": "no accuracy: the evaluation data have no labels",
    "top1_agreement": "the model has no output [batch, classes] whose largest class could be compared with fp32's",
    "sqnr": "no SQNR: the outputs hold no floating-point values, or none that are finite in this variant and in fp32",
}
NOT_COMPARED = "the outputs were not compared with a reference"
# Decibels; beyond it lies how float32 rounds on one processor or another.
LARGEST_SQNR = 100.0


def figure(line: FidelityLine | None, metric: Metric) -> float | None:
    """A figure of a case's outputs: a share, or for ``sqnr`` the decibels of the worst output, at most LARGEST_SQNR."""
    if line is None:
        return None
    found = line.fidelity
    if metric == "accuracy":
        return found.top1_accuracy
    if metric == "top1_agreement":
        return found.top1_agreement
    if found.sqnr_db is None:
        return LARGEST_SQNR if found.mse == 0 or (found.identical and found.values) else None
    return min(found.sqnr_db, LARGEST_SQNR)


def check(found: Check, baseline: FidelityLine, candidate: FidelityLine) -> Check:
    """Judge whether the candidate's outputs have faults that the baseline's do not have; skipped if a side has no outputs."""
    for line in (candidate, baseline):
        if not line.fidelity.outputs:
            # What the candidate has is told even where nobody knows whether it is new.
            lacks = [line.reason, candidate.uncompared, *candidate.notes]
            return replace(found, verdict="skipped", reason="; ".join(filter(None, lacks)) or None)
    seen = faults.compare(baseline, candidate)
    told = [f"the baseline's outputs have the same fault: {'; '.join(seen.shared)}"] if seen.shared else []
    told += [candidate.uncompared] if candidate.uncompared else []
    if candidate.unlike and candidate.reference == faults.BASELINE:
        told.append(
            f"constant slices of {', '.join(candidate.unlike)} are not judged, because its other slices differ from the baseline's as well"
        )
    if seen.new and candidate.reference == faults.BASELINE:
        told.append("if the candidate was trained anew and this is intended, --no-check-outputs switches the check off")
    return replace(
        found,
        verdict="regressed" if seen.new else "passed",
        baseline=seen.baseline,
        candidate=len(seen.new) + len(seen.shared),
        faults=seen.new,
        reason="; ".join(told) or None,
    )
