"""The checks of a gate on one device: each metric of a pair, from a first set of launches and a second one that confirms it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.judge import decision, outputs
from harness.judge.check import Check
from harness.judge.intervals import Estimate
from harness.judge.timing import Timing
from harness.study.claims_and_gate import TIMES
from harness.text import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.measure.pairs import Pair
    from harness.records.run import DeviceRecord, LaunchRecord, Run
    from harness.records.samples import LaunchKey
    from harness.study.claims_and_gate import Metric

QUANTILE = {"latency.p90": 0, "latency.p99": 1}
# One measurement is all there is to know.
EXACT = ("size", *outputs.FIGURES)
MILLION, MB = 1e6, 1e6


@dataclass(frozen=True)
class _Finding:
    """The finding of one set of launches."""

    verdict: decision.Verdict
    change: Estimate | None
    processes: int = 0


class Checker:
    """One device's measurements, in two sets: rounds below the study's number, and those from there on, which confirm."""

    def __init__(
        self,
        run: Run,
        device: DeviceRecord,
        quantiles: Mapping[LaunchKey, tuple[float, ...]],
    ) -> None:
        self._run, self._device = run, device
        self._cases = {case.id: case for case in run.cases}
        self._records = {record.case: record for record in run.results if record.device == device.entry.name}
        names = {case.id: case.name for case in run.cases}
        self._first_of_second = run.study.measure.rounds
        launches = () if device.emulated else [each for each in run.launches if each.device == device.entry.name]
        self._all = Timing(device.entry.name, launches, quantiles, names)
        self._sets = tuple(
            Timing(device.entry.name, [each for each in launches if self._is_second(each.round) == second], quantiles, names)
            for second in (False, True)
        )

    def _is_second(self, number: int) -> bool:
        return number >= self._first_of_second

    def check(self, pair: Pair, metric: Metric, limit: float) -> Check:
        """Judge one metric of one pair."""
        found = self._check(pair, metric, limit)
        if reason := self._impossible(pair, metric):
            return replace(found, reason=reason)
        baseline, candidate = (self._value(case, metric) for case in pair)
        found = replace(found, verdict="unmeasured", baseline=baseline, candidate=candidate)
        failed = any(self._records[case].state == "failed" for case in pair)
        # What was measured before a case failed is no reason to pass it.
        first = None if failed else self._finding(pair, metric, limit, 0)
        if first is None:
            return self._without_figure(found, pair)
        found = replace(found, change=first.change, processes=first.processes)
        if first.verdict != "slower":
            return replace(
                found, verdict=first.verdict, reason=_undecided(first, metric, limit) if first.verdict == "open" else None
            )
        if metric in EXACT:
            return replace(found, verdict="regressed")
        second = self._finding(pair, metric, limit, 1)
        if second is None:
            return replace(
                found,
                verdict="apparent",
                reason="the first set of launches shows a regression, but no second set was measured to confirm it",
            )
        reasons = {
            "slower": None,
            "passed": "the first set of launches showed a regression, and a second, independent set did not",
            "open": f"the first set of launches showed a regression; in the second set {_undecided(second, metric, limit)}",
        }
        return replace(
            found,
            verdict="regressed" if second.verdict == "slower" else second.verdict,
            confirmed=second.change,
            processes=first.processes + second.processes,
            reason=reasons[second.verdict],
        )

    def faults(self, pair: Pair, *, wanted: bool) -> list[Check]:
        """Judge the faults of the outputs. Without outputs, the check says so only if the gate names this metric."""
        baseline, candidate = (self._records[case] for case in pair)
        found = self._check(pair, "outputs", 0.0)
        if baseline.fidelity is not None and candidate.fidelity is not None:
            found = outputs.check(found, baseline.fidelity, candidate.fidelity)
            return (
                [found] if found.candidate is not None or found.reason else [replace(found, reason=outputs.NOT_COMPARED)] * wanted
            )
        if reason := self._impossible(pair, "outputs"):
            return [replace(found, reason=reason)] * wanted
        return [self._without_figure(found, pair)] * wanted

    def _without_figure(self, found: Check, pair: Pair) -> Check:
        """A check without a figure: open if the time limit was reached, otherwise not measured."""
        failed = any(self._records[case].state == "failed" for case in pair)
        is_late = self._device.ended == "max_time" and self._device.state == "measured" and not failed
        return replace(found, verdict="open" if is_late else "unmeasured", reason=self._lack(pair, found.metric))

    def _check(self, pair: Pair, metric: Metric, limit: float) -> Check:
        """A check without a verdict."""
        case = self._cases[pair[1]]
        return Check(self._device.entry.name, case.name, metric, "skipped", limit, id=case.id)

    def _impossible(self, pair: Pair, metric: Metric) -> str | None:
        """Why this device can never measure a metric, or None."""
        for case in pair:
            if self._records[case].state == "impossible":
                return self._records[case].reason
        if metric in TIMES and self._device.emulated:
            return f"the device is emulated ({self._device.emulated}), so its times mean nothing"
        facts = self._device.facts
        if metric == "instructions" and self._device.emulated == "wall":
            return "instructions are not counted, because the board runs by the host's clock"
        if metric == "instructions" and not self._device.emulated and facts is not None and facts.uncountable is not None:
            return f"instructions are not counted: {facts.uncountable}"
        return None

    def _lack(self, pair: Pair, metric: Metric) -> str:
        """Why there is no figure."""
        roles = [(role, self._records[case]) for role, case in zip(("the baseline", "the candidate"), pair, strict=True)]
        lost = [f"{role} failed: {record.kind}: {record.reason}" for role, record in roles if record.state == "failed"]
        # Why a device failed, the table says once.
        lost += [f"the device failed ({self._device.step})"] if self._device.state == "failed" else []
        lost += ["the time limit was reached (measure.max_time)"] if self._device.ended == "max_time" else []
        lost += [f"{role} {record.state}: {record.reason}" for role, record in roles if record.state == "unmeasured"]
        return lost[0] if lost else self._untold(pair, metric)

    def _untold(self, pair: Pair, metric: Metric) -> str:
        """Why there is no figure although both sides were measured."""
        reasons = [fidelity.reason for case in pair if (fidelity := self._records[case].fidelity) and fidelity.reason]
        if metric in outputs.FIGURES:
            return reasons[0] if reasons else outputs.LACKS[metric]
        if metric in (*QUANTILE, "load") and not self._all.launches_of(pair):
            return "the two are measured in separate processes, so only their medians are compared"
        if metric in QUANTILE:
            return "each launch has too few iterations for this percentile"
        return "it was not measured"

    def _value(self, case: str, metric: Metric) -> float | None:
        """A case's own value."""
        record = self._records[case]
        level: Estimate | None = None
        if metric == "latency.median":
            level = self._all.level(case)
        elif metric in QUANTILE:
            level = self._all.quantile(case, QUANTILE[metric])
        elif metric == "load":
            loads = [
                value
                for launch in self._all.launches
                if case in launch.cases
                for value in _loads(launch, launch.cases.index(case))
            ]
            return math.exp(sum(loads) / len(loads)) / 1e6 if loads else None
        elif metric == "memory":
            return max(record.peaks) / MB if record.peaks else None
        elif metric == "size":
            size = self._run.variant(self._cases[case].variant).size
            return size / MB if size is not None else None
        elif metric in outputs.FIGURES:
            return outputs.figure(record.fidelity, metric)
        else:
            counts = sorted(each.instructions for each in record.counts)
            return counts[len(counts) // 2] / MILLION if counts else None
        return level.value if level else None

    def _finding(self, pair: Pair, metric: Metric, limit: float, which: int) -> _Finding | None:
        """The finding of one of the two sets of launches; None if it has no figures."""
        timing = self._sets[which]
        if metric == "latency.median":
            groups = [[-value for value in group] for group in timing.groups(pair)]
            return _decided(decision.decide(groups, limit)) if groups and all(groups) else None
        if metric in QUANTILE or metric == "load":
            groups = self._groups(pair, metric, timing)
            return _decided(decision.look(groups, limit, decision.first_look(metric))) if groups and all(groups) else None
        return self._exact(pair, metric, limit, which)

    def _groups(self, pair: Pair, metric: Metric, timing: Timing) -> list[list[float]]:
        """The logarithms of candidate over baseline, one list for each launch."""
        groups = []
        for launch in timing.launches_of(pair):
            if metric == "load":
                groups.append([now - before for before, now in zip(_loads(launch, 0), _loads(launch, 1), strict=True)])
            else:
                ends = [timing.launch_quantile(launch, position, QUANTILE[metric]) for position in (0, 1)]
                groups.append([math.log(ends[1] / ends[0])] if ends[0] and ends[1] else [])
        return groups

    def _exact(self, pair: Pair, metric: Metric, limit: float, which: int) -> _Finding | None:
        """The finding for a metric without a distribution: the observed extremes, or a single value."""
        if metric == "instructions":
            sets = [
                [each.instructions for each in self._records[case].counts if self._is_second(each.round) == bool(which)]
                for case in pair
            ]
        elif metric == "memory":
            sets = [list(self._records[case].peaks[which : which + 1]) for case in pair]
        else:
            sets = [[value] if (value := self._value(case, metric)) is not None else [] for case in pair]
        if not all(sets):
            return None
        before, now = sets
        if metric in outputs.FIGURES:
            drop = before[0] - now[0]
            return _Finding("slower" if drop > limit + 1e-12 else "passed", Estimate(drop, drop, drop, 1))
        low, high = min(now) / max(before), max(now) / min(before)
        middle = math.sqrt(min(now) * max(now) / min(before) / max(before))
        return _Finding(
            decision.side(low, high, limit), Estimate(middle, low, high, len(now)), len(now) if metric != "size" else 0
        )


def _decided(found: decision.Decision) -> _Finding:
    return _Finding(found.verdict, found.slowdown, found.processes)


def _loads(launch: LaunchRecord, index: int) -> list[float]:
    """Logarithms of the times to create a session. The first session of a process also loads the libraries, so it counts only if it is the only one."""
    return [math.log(rebuild.load_ns[index]) for rebuild in launch.rebuilds[1:] or launch.rebuilds if rebuild.load_ns[index] > 0]


def _undecided(found: _Finding, metric: Metric, limit: float) -> str:
    """Why a finding is open."""
    effect = decision.smallest_effect(found.change)
    least = decision.first_look(metric)
    if effect is None or found.change is None or found.processes < least:
        return f"{metric} needs {least} launches, had {found.processes}"
    if found.change.low is not None and found.change.low > 1 and effect < limit:
        return f"it is too close to the limit to decide; the smallest difference that could be detected is {percent(effect)}"
    return f"not precise enough: the smallest slowdown that could be detected is {percent(effect)}"
