"""The gate: compare every metric of every candidate case with its baseline's, measured side by side.

A regression is called one only after a second, independent set of processes says so too; sizes and what the outputs tell are exact and need none.
What was not measured is never passed.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from harness.judge.checker import Checker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.judge.check import Check
    from harness.records.run import DeviceRecord, Run
    from harness.records.samples import LaunchKey
    from harness.study.claims_and_gate import GateSection, Metric


def limit_of(gate: GateSection, metric: Metric, device: str, tags: Sequence[str], variant: str) -> float | None:
    """How much worse a metric may be for a case; None if the gate does not include it."""
    asked = metric in gate.metric or (metric == "outputs" and gate.check_outputs)
    found = gate.allowed(metric) if asked else None
    for each in gate.limit:
        here = each.device is None or (each.device[1:] in tags if each.device.startswith("@") else each.device == device)
        if each.metric == metric and here and (each.variant is None or fnmatchcase(variant, each.variant)):
            found = each.allowed
    return found


def checks(run: Run, device: DeviceRecord, quantiles: Mapping[LaunchKey, tuple[float, ...]]) -> tuple[Check, ...]:
    """Judge a device; no checks if the run is not a gate."""
    gate = run.study.gate
    if run.baseline is None or gate is None:
        return ()
    name = device.entry.name
    cases = {case.id: case for case in run.cases}
    measured = {record.case for record in run.results if record.device == name}
    checker = Checker(run, device, quantiles)
    found: list[Check] = []
    for pair in run.units:
        candidate = cases[pair[1]]
        if not set(pair) <= measured:
            continue
        for metric in gate.metrics:
            limit = limit_of(gate, metric, name, device.entry.tags, candidate.variant)
            if limit is not None and metric == "outputs":
                found += checker.faults(pair, wanted="outputs" in gate.metric)
            elif limit is not None:
                found.append(checker.check(pair, metric, limit))
    return tuple(found)


def is_blind(found: Sequence[Check]) -> bool:
    """Whether a device can measure none of the gate's metrics; the check of the outputs counts only if it is the only one."""
    judged = [check for check in found if check.metric != "outputs"] or found
    return all(check.verdict == "skipped" for check in judged)


def is_decided(found: Sequence[Check]) -> bool:
    """Whether more time would change nothing: there are checks, and each has its verdict."""
    return bool(found) and not any(check.verdict in {"open", "apparent", "unmeasured"} for check in found)


def suspects(found: Sequence[Check]) -> set[str]:
    """The ids of the candidate cases that need a second set of launches."""
    return {check.id for check in found if check.verdict == "apparent" and check.id is not None}
