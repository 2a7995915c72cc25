"""The plan that a device is asked to carry out (runners/PROTOCOL.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from scipy import stats

from harness.devices.protocol import PROTOCOL
from harness.measure import plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    import protocol

    from harness.devices.device import Device
    from harness.devices.facts import Facts
    from harness.measure.work import Work
    from harness.study.study import MeasureSection

# A ratio's interval is not looked at before: of processes that are fast or slow as a whole, fewer are too often all of one kind.
LEAST_ROUNDS = 6
# Pairs of blocks between two rebuilds of the sessions; the replicate is the median over them.
PAIRS = 3
# Two-sided 95 %: the quantiles of Student's t that the device needs, for 1, 2, … degrees of freedom.
LEVEL, QUANTILES = 0.95, 200
THROUGHPUT_ROUNDS, THROUGHPUT_SECONDS = 4, 0.5
# A case's instructions are counted in processes of their own until two agree to 0.1 %, but in no more than these.
COUNT_ROUNDS = 5
COUNT_SPREAD = 0.001
COUNT_ITERATIONS = 5


def request(work: Work, device: Device, facts: Facts, hashes: Mapping[str, str] | None = None) -> protocol.Plan:
    """Write the plan for one device: what of the work it measures, and how.

    Args:
        work: what is measured. With a bar, the device measures until it can decide, otherwise to a precision.
        device: of whom it is asked.
        facts: what the device is.
        hashes: the runtimes that were brought there, by version.
    """
    measure, bar = work.measure, work.bar
    planned = [
        case for case in work.cases if plan.belongs(case, device) and not plan.misplaced(work.variants[case.variant], facts.arch)
    ]
    ids = {case.id for case in planned}
    by_dims = {tuple(found.dims.items()): found for found in work.inputs}
    described: list[protocol.Case] = []
    for case in planned:
        feed, variant = by_dims[tuple(case.dims.items())], work.variants[case.variant]
        assert variant.sha256 is not None  # noqa: S101 - for the type checker: only what was made has cases
        described.append(
            {
                "id": case.id,
                "model": variant.sha256,
                "data": variant.data,
                "inputs": feed.sha256,
                "names": list(feed.names),
                "threads": case.threads,
                "provider": case.provider,
                "optimization": case.optimization,
                "runtime": (hashes or {}).get(case.runtime or ""),
            }
        )
    # Times on an emulated device mean nothing: none are taken.
    emulated = is_emulated(device, facts)
    asked: protocol.Plan = {
        "protocol": PROTOCOL,
        "cases": described,
        "units": [] if emulated else [list(unit) for unit in work.units if ids.issuperset(unit)],
        "seed": work.seed,
        "rounds": measure.rounds,
        "least_rounds": LEAST_ROUNDS,
        "precision": math.log1p(measure.precision),
        "t": quantiles(LEVEL),
        "turns": measure.duet == "calls",
        "rebuilds": measure.rebuilds,
        "pairs": PAIRS,
        "block": measure.block,
        "warmup": measure.warmup,
        "launch": measure.launch,
        "samples": measure.emulated_samples if emulated else None,
        "counter": counter(device, facts, measure),
        "count_rounds": COUNT_ROUNDS,
        "count_spread": COUNT_SPREAD,
        "count_iterations": COUNT_ITERATIONS,
        "throughput": [] if emulated else measure.throughput,
        "throughput_rounds": THROUGHPUT_ROUNDS,
        "throughput_seconds": THROUGHPUT_SECONDS,
        "max_time": measure.max_time,
        "timeout": measure.timeout,
        "longest": longest(measure, len(described)),
    }
    if bar is not None:
        asked |= {
            "least_rounds": bar.first_look,
            "t": quantiles(bar.level),
            "limits": [
                (list(unit), math.log1p(limit)) for unit, limit in bar.limits.get(device.name, {}).items() if ids.issuperset(unit)
            ],
            "first_round": bar.first_round,
        }
    if device.cpus is not None:
        asked["cpus"] = device.cpus
    if device.governor is not None:
        asked["governor"] = device.governor
    if device.memory is not None:
        asked["memory"] = device.memory
    return asked


def counter(device: Device, facts: Facts, measure: MeasureSection) -> Literal["icount", "perf"] | None:
    """Say what counts instructions on a device: an icount board's clock, the kernel of a real one, or nothing."""
    if not measure.counting:
        return None
    emulated = device.emulated or (facts.emulated.by if facts.emulated else None)
    if emulated is not None:
        return "icount" if emulated == "icount" else None
    return "perf" if facts.uncountable is None else None


def is_emulated(device: Device, facts: Facts) -> bool:
    """Whether a device's times mean nothing, as its owner or its facts say."""
    return device.emulated is not None or facts.emulated is not None


def longest(measure: MeasureSection, count: int) -> float:
    """How long a job with so many cases may take, in seconds. After that it ends itself, whatever it is doing.

    Evaluations, and the task that is running when the time is up, come on top of the time to measure.
    """
    return 2 * measure.max_time + measure.timeout * (count + 2)


def quantiles(level: float) -> list[float]:
    """Student's t, two-sided, for 1, 2, … degrees of freedom."""
    return [round(float(stats.t.ppf((1 + level) / 2, freedom)), 6) for freedom in range(1, QUANTILES + 1)]
