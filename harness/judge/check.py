"""One check of a release gate: a metric of a candidate's case on a device, against the baseline's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.judge.intervals import Estimate
    from harness.study.claims_and_gate import Metric

Verdict = Literal["passed", "regressed", "apparent", "open", "unmeasured", "skipped"]


@dataclass(frozen=True)
class Check:
    """One metric of one case on one device.

    Attributes:
        case: the name of the candidate's case; id: its id in the run.
        verdict: ``apparent``: a first set of processes says so, and there is no second one; ``skipped``: this device can't tell this metric;
            ``unmeasured``: it should have been measured, and was not.
        limit: how much worse it may be: a share; points of top-1 of accuracy and top1_agreement; decibels of sqnr; 0 of outputs.
        baseline: the value in the metric's unit: ms, MB, top-1, decibels or millions of instructions; of outputs the number of faults.
            candidate likewise.
        change: candidate over baseline; of accuracy, top1_agreement and sqnr the baseline's minus the candidate's. With an interval where
            there can be one: of times two-sided 99.5 % (harness/judge/decision.py), of instructions the extremes that were seen. None of outputs.
        confirmed: the same from the second set of processes.
        reason: why it is not passed or regressed, or what a reader must know.
        processes: how many the decision took, both sets together.
        faults: of outputs: a sentence for each fault that the candidate has and the baseline does not.
    """

    device: str
    case: str
    metric: Metric
    verdict: Verdict
    limit: float
    baseline: float | None = None
    candidate: float | None = None
    change: Estimate | None = None
    confirmed: Estimate | None = None
    reason: str | None = None
    processes: int = 0
    faults: tuple[str, ...] = ()
    id: str | None = None
