"""The effect that a claim is about, for one pair: a ratio or a difference with its error, compared with the claim's bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from scipy import stats

from harness.judge.intervals import LEAST, LEVEL, Estimate, spread
from harness.text import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.timing import Timing
    from harness.records.run import CaseRecord, LaunchRecord, Run
    from harness.study.claims_and_gate import ClaimSection

Word = Literal["supported", "refuted", "open", "not judged"]
# To start a process and import onnxruntime, beside what is measured there.
START_SECONDS = 0.6


@dataclass(frozen=True)
class Effect:
    """A pair's effect on the scale of its claim, 'subject against than'.

    Attributes:
        value: a ratio above 1 is in the subject's favour, as is a difference above 0.
        low: the 95 % interval's end, or the extreme that was seen; None where it is not known.
        unit: ``×`` of ratios, ``points`` of top-1, ``dB`` of SQNR.
        what: of what it is.
        error: the standard error, of the logarithm for ratios; None for what has no distribution.
        freedom: its degrees of freedom.
        processes: how many told it, at so many ``seconds`` each.
    """

    value: float
    low: float | None
    high: float | None
    unit: Literal["×", "points", "dB"]
    what: str
    error: float | None = None
    freedom: float = math.inf
    processes: int = 0
    seconds: float | None = None
    shortfall: str | None = None

    def against(self, low: float | None, high: float | None) -> tuple[Word, float | None]:
        """Compare it with bounds. With one bound, p is two-sided; with two bounds, it is that of two one-sided tests."""
        if self.error is None:
            return self._exactly(low, high), None
        if self.processes and self.processes < LEAST:
            return "open", None
        at = self._scale(self.value)
        under, over = (None if bound is None else self._scale(bound) for bound in (low, high))
        if under is not None and over is not None and under < at < over:
            return "supported", max(self._tail(at - under), self._tail(over - at))
        bound = under if under is not None and (over is None or at <= under) else over
        if bound is None:
            return "supported", 0.0
        p = min(1.0, 2 * self._tail(abs(at - bound)))
        holds = (under is None or at > under) and (over is None or at < over)
        return ("supported" if holds else "refuted"), p

    def told(self, low: float | None, high: float | None) -> Effect:
        """The same, with what is missing for a decision."""
        return replace(self, shortfall=self._shortfall(low, high))

    def _exactly(self, low: float | None, high: float | None) -> Word:
        """Without a distribution: the side on which all observed values lie; a value equal to a one-sided bound does not support the claim."""
        least, most = (self.value if end is None else end for end in (self.low, self.high))
        if (low is None or least > low or (high is not None and least >= low)) and (high is None or most <= high):
            return "supported"
        if (low is not None and most <= low) or (high is not None and least > high):
            return "refuted"
        return "open"

    def _scale(self, value: float) -> float:
        return math.log(value) if self.unit == "×" else value

    def _tail(self, distance: float) -> float:
        assert self.error is not None  # noqa: S101 - asked for only then
        if self.error == 0:
            return 0.0 if distance > 0 else 0.5
        return float(stats.t.sf(distance / self.error, self.freedom))

    def _shortfall(self, low: float | None, high: float | None) -> str:
        """The smallest effect that could have been detected, and what it would take to decide this one."""
        if self.processes and self.processes < LEAST:
            return "there are fewer than three launches"
        if self.error is None:
            return "the measured values lie on both sides of the limit"
        reach = self.error * float(stats.t.ppf((1 + LEVEL) / 2, self.freedom))
        least = percent(math.expm1(reach)) if self.unit == "×" else f"{100 * reach:.2g} points"
        words = f"the smallest effect that could have been detected is {least}"
        distance = min(
            (abs(self._scale(self.value) - self._scale(bound)) for bound in (low, high) if bound is not None), default=0.0
        )
        if not self.processes or not self.seconds or distance <= 0:
            return words
        needed = self.processes * (reach / distance) ** 2
        more = max(1.0, needed - self.processes) * self.seconds
        return f"{words}; about {_duration(more)} more of measuring this pair would decide it, if the ratio stays the same"


def measured(claim: ClaimSection, run: Run, timing: Timing, both: tuple[CaseRecord, CaseRecord]) -> Effect | str:
    """The effect that a claim is about, from (than, subject), or the reason why there is none."""
    if claim.kind == "smaller":
        sizes = [run.variant(next(case.variant for case in run.cases if case.id == record.case)).size for record in both]
        if not sizes[0] or not sizes[1]:
            return "the size of a file is not known"
        ratio = sizes[0] / sizes[1]
        return Effect(ratio, ratio, ratio, "×", "size")
    if claim.kind == "more_accurate":
        return _accuracy(claim, both)
    if claim.metric == "instructions":
        return instructions(both) or "instructions were not counted on this device"
    return _speed(timing, both)


def _speed(timing: Timing, both: tuple[CaseRecord, CaseRecord]) -> Effect | str:
    """How many times faster the subject is, from launches of both or from separate processes."""
    pair, turned = tuple(record.case for record in both), False
    groups = timing.groups(pair)
    if not groups:
        pair, turned = pair[::-1], True
        groups = timing.groups(pair)
    if not groups or not all(groups):
        missing = next((record for record in both if record.state != "measured"), None)
        return missing.reason or "it was not measured" if missing else "the two were not measured side by side"
    if turned:
        groups = [[-value for value in group] for group in groups]
    centre, error, freedom = spread(groups)
    value = math.exp(centre)
    seconds = seconds_each(
        [launch for launch in timing.launches if pair in {launch.cases, launch.separate_processes}], len(groups)
    )
    if error is None:
        return Effect(value, None, None, "×", "speed", 0.0, processes=len(groups), seconds=seconds)
    reach = error * float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    low, high = math.exp(centre - reach), math.exp(centre + reach)
    return Effect(value, low, high, "×", "speed", error, freedom, len(groups), seconds)


def instructions(both: tuple[CaseRecord, CaseRecord]) -> Effect | None:
    """How many times fewer instructions the subject runs; the ends are the observed extremes."""
    before, now = ([count.instructions for count in record.counts] for record in both)
    if not before or not now or min(now) <= 0:
        return None
    low, high = min(before) / max(now), max(before) / min(now)
    return Effect(math.sqrt(low * high), low, high, "×", "instructions")


def _accuracy(claim: ClaimSection, both: tuple[CaseRecord, CaseRecord]) -> Effect | str:
    """The difference in top-1 (two proportions) if there are labels; otherwise, or if the claim says so, the difference in SQNR, which is exact."""
    lines = [record.fidelity for record in both]
    if lines[0] is None or lines[1] is None:
        return "its outputs were not compared"
    (than, than_samples), (subject, samples) = ((line.fidelity, line.samples) for line in lines if line is not None)
    if than.top1_accuracy is not None and subject.top1_accuracy is not None and claim.metric != "sqnr" and samples:
        # Errors of both on the same samples go together: as if they were independent is the cautious side.
        count = min(samples, than_samples or samples)
        # One more right and one more wrong (Agresti and Caffo 2000, Am. Stat. 54:280): all right of a few samples is no certainty.
        shares = [(each * count + 1) / (count + 2) for each in (than.top1_accuracy, subject.top1_accuracy)]
        error = math.sqrt(sum(share * (1 - share) for share in shares) / (count + 2))
        difference = subject.top1_accuracy - than.top1_accuracy
        reach = error * float(stats.norm.ppf((1 + LEVEL) / 2))
        return Effect(difference, difference - reach, difference + reach, "points", "top-1", error)
    if than.sqnr_db is None or subject.sqnr_db is None:
        return "their SQNR is not known"
    difference = subject.sqnr_db - than.sqnr_db
    return Effect(difference, difference, difference, "dB", "SQNR")


def seconds_each(launches: Sequence[LaunchRecord], processes: int) -> float | None:
    """About how long a launch of the pair took, in seconds."""
    if not launches or not processes:
        return None
    total = 0.0
    for launch in launches:
        total += START_SECONDS
        for rebuild in launch.rebuilds:
            total += (sum(rebuild.load_ns) + sum(rebuild.first_ns) + sum(pair.wall_ns for pair in rebuild.pairs)) / 1e9
            medians = rebuild.pairs[0].medians
            total += sum(calls * median for calls, median in zip(rebuild.warmup, medians, strict=True)) / 1e9
    return total / processes


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} seconds"


def estimate(found: Effect) -> Estimate:
    """For a table."""
    return Estimate(found.value, found.low, found.high, found.processes, found.processes)
