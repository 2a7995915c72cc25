"""Whether a verdict can be trusted: false alarms and power of the gate's rule, and coverage of the 95 % interval, on real latencies.

A cell is a model under one condition of the machine (conditions.py). In each, the runner measures the model against a copy of itself, process after process, as
a gate would. The truth is known: no difference. Then decisions are replayed many times over these processes, drawn in random order, with the
roles of the two copies drawn too; a slowdown is injected by making one of them slower by so many per cent. Beside it stands what other tools'
rules say of the same samples. Models that really do more work are measured as well.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from arguments import at_least, cells_of, rounded, some_of, writable
from cells import REAL, SAME, cells
from conditions import CONDITIONS
from scipy import stats

from harness.judge import decision
from harness.judge.intervals import grouped
from harness.measure import request
from harness.measure.launch import Launch
from harness.records.assemble import counting

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOWDOWNS = (0.0, 0.02, 0.03, 0.05, 0.10)
LIMIT = 0.02
MOST, FIXED = 40, request.LEAST_ROUNDS
REPLAYS = 1000
# What the other rules ask for.
P = 0.05


class Process:
    """One launch: the logarithms of second over first, one for each pair of blocks, and the samples of both in nanoseconds."""

    def __init__(self, said: dict[str, Any], seconds: float) -> None:
        launch = Launch.model_validate({**said, "device": "here", "round": 0})
        self.seconds = seconds
        self.logs, self.blocks = [], []
        for rebuild in launch.rebuilds:
            pairs = counting(rebuild)
            self.logs += [math.log(pair.medians[1] / pair.medians[0]) for pair in pairs]
            self.blocks.append([[np.array(pair.samples[index].nanoseconds) for pair in pairs] for index in (0, 1)])
        pairs = [pair for rebuild in launch.rebuilds for pair in rebuild.pairs]
        self.disturbed = sum(bool(pair.disturbed) for pair in pairs) / len(pairs)

    def samples(self, index: int) -> np.ndarray:
        """All nanoseconds of one of the two, pooled over the process's sessions, as tools do that make one session."""
        return np.concatenate(self.blocks[0][index])


def slowed(process: Process, share: float, chance: random.Random) -> list[float]:
    """A process's replicates with the roles drawn and a slowdown injected."""
    role = chance.choice((-1, 1))
    return [role * log + math.log1p(share) for log in process.logs]


def ours(drawn: Sequence[Process], share: float, chance: random.Random) -> decision.Decision:
    """The gate's rule."""
    return decision.decide([slowed(process, share, chance) for process in drawn[:MOST]], LIMIT)


def mean_5_percent(drawn: Sequence[Process], share: float, _chance: random.Random) -> bool:
    """pytest-benchmark's --benchmark-compare-fail=mean:5%, one process each."""
    return float(drawn[1].samples(1).mean()) * (1 + share) > 1.05 * float(drawn[0].samples(0).mean())


def mann_whitney(drawn: Sequence[Process], share: float, _chance: random.Random) -> bool:
    """Mann-Whitney's U on pooled iterations, p < 0.05, one process each."""
    found = stats.mannwhitneyu(drawn[1].samples(1) * (1 + share), drawn[0].samples(0), alternative="greater")
    return bool(found.pvalue < P)


def repetitions(drawn: Sequence[Process], share: float, _chance: random.Random) -> bool:
    """Google Benchmark's tools/compare.py: U test over repetitions in one process each, p < 0.05; a block is a repetition."""
    new, old = ([block.mean() for rebuild in drawn[index].blocks for block in rebuild[index]] for index in (1, 0))
    return bool(stats.mannwhitneyu(np.array(new) * (1 + share), old, alternative="two-sided").pvalue < P) and (
        statistics.median(new) * (1 + share) > statistics.median(old)
    )


def pyperf(drawn: Sequence[Process], share: float, _chance: random.Random) -> bool:
    """Pyperf compare_to: a two-sided t test at 95 % over process means, here six processes each, one after the other."""
    old = [process.samples(0).mean() for process in drawn[:6]]
    new = [process.samples(1).mean() * (1 + share) for process in drawn[6:12]]
    found = stats.ttest_ind(new, old)
    return bool(found.pvalue < P and found.statistic > 0)


OTHERS = {
    "pytest-benchmark mean:5%": mean_5_percent,
    "Mann-Whitney, pooled iterations": mann_whitney,
    "Google Benchmark repetitions": repetitions,
    "pyperf t test, 6 processes each": pyperf,
}


def replay(measured: Sequence[Process], replays: int) -> dict[str, Any]:
    """Decide again and again over drawn processes."""
    chance = random.Random(1)
    alarms: dict[str, list[float]] = {"ours": [0.0] * len(SLOWDOWNS), **{name: [0.0] * len(SLOWDOWNS) for name in OTHERS}}
    took: list[float] = []
    covered = 0
    verdicts: dict[str, int] = {"slower": 0, "passed": 0, "open": 0}
    for _ in range(replays):
        # With replacement: drawing from the same few without it would make intervals look better than they are.
        drawn = chance.choices(list(measured), k=MOST)
        for position, share in enumerate(SLOWDOWNS):
            found = ours(drawn, share, chance)
            alarms["ours"][position] += (found.verdict == "slower") / replays
            if share == 0:
                took.append(sum(process.seconds for process in drawn[: found.processes]))
                verdicts[found.verdict] += 1
            for name, rule in OTHERS.items():
                alarms[name][position] += rule(drawn, share, chance) / replays
        interval = grouped([slowed(process, 0, chance) for process in drawn[:FIXED]])
        covered += interval is not None and (interval.low or 0) <= 1 <= (interval.high or 0)
    return {
        "processes": len(measured),
        "disturbed": statistics.fmean(process.disturbed for process in measured),
        "coverage_95": covered / replays,
        "seconds": statistics.median(took),
        "verdicts_without_difference": {name: count / replays for name, count in verdicts.items()},
        "alarms": alarms,
    }


def replay_real(measured: Sequence[Process], replays: int) -> dict[str, Any]:
    """Decide again and again about a model that does more work."""
    chance = random.Random(1)
    found = [decision.decide([process.logs for process in chance.choices(list(measured), k=MOST)], LIMIT) for _ in range(replays)]
    return {
        "processes": len(measured),
        "found": sum(each.verdict == "slower" for each in found) / replays,
        "slowdown": statistics.median(each.slowdown.value for each in found if each.slowdown) - 1,
        "seconds": statistics.median(statistics.fmean(p.seconds for p in measured) * each.processes for each in found),
    }


def is_real(cell: str) -> bool:
    """Whether the two models of a cell really differ."""
    return cell.rpartition(", ")[0] in REAL


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print the tables."""
    print(f"{'cell':26} {'rule':34} {'false alarms':>12} " + " ".join(f"{f'+{100 * share:.0f} %':>7}" for share in SLOWDOWNS[1:]))
    for cell, found in results.items():
        if is_real(cell):
            print(
                f"{cell}: {100 * found['slowdown']:+.1f} %, called slower in {100 * found['found']:.1f} %, after {found['seconds']:.1f} s"
            )
            continue
        for name, shares in found["alarms"].items():
            label = f"the gate's, {found['seconds']:.1f} s" if name == "ours" else name
            cells_of = " ".join(f"{100 * share:6.1f}%" for share in shares[1:])
            print(f"{cell:26} {label:34} {100 * shares[0]:11.1f}% {cells_of}")
        verdicts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in found["verdicts_without_difference"].items())
        print(
            f"{'':26} 95 % interval of {FIXED} processes covers the truth in {100 * found['coverage_95']:.1f} %; without a difference: {verdicts}; "
            f"{100 * found['disturbed']:.0f} % of pairs disturbed; {found['processes']} processes"
        )


def main() -> None:
    """Measure, replay, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--processes", type=at_least(2), default=60, help="of each cell (default: 60)")
    parser.add_argument("--replays", type=at_least(1), default=REPLAYS)
    parser.add_argument("--models", type=some_of(SAME), default=",".join(SAME), help="measured against copies of themselves")
    parser.add_argument(
        "--real", type=some_of(REAL), default=",".join(REAL), help="models that really do more work; 'none' for none"
    )
    parser.add_argument(
        "--conditions", type=some_of(CONDITIONS), default="quiet,two neighbours", help=f"of {', '.join(CONDITIONS)}"
    )
    parser.add_argument("--keep", type=writable, help="write what was measured to this file")
    parser.add_argument("--again", type=cells_of, help="replay what --keep wrote, without measuring")
    options = parser.parse_args()
    if not options.again and not (options.conditions and (options.models or options.real)):
        parser.error("nothing to measure: name a condition, and a model or a real difference")
    if options.again:
        raw = options.again
    else:
        raw = {}
        with tempfile.TemporaryDirectory() as temporary:
            for cell, found in cells(Path(temporary), options.processes, options.models, options.conditions, options.real):
                raw[cell] = found
                if options.keep:
                    options.keep.write_text(json.dumps(raw))
    results = {
        cell: (replay_real if is_real(cell) else replay)([Process(*each) for each in found], options.replays)
        for cell, found in raw.items()
    }
    if options.json:
        same = [found for cell, found in results.items() if not is_real(cell)]
        worst: dict[str, Any] = (
            {}
            if not same
            else {
                "false_alarm_rate": max(found["alarms"]["ours"][0] for found in same),
                "power_at_3_percent": min(found["alarms"]["ours"][2] for found in same),
                "coverage_95": statistics.fmean(found["coverage_95"] for found in same),
                "coverage_95_range": [min(found["coverage_95"] for found in same), max(found["coverage_95"] for found in same)],
                "seconds": max(found["seconds"] for found in same),
            }
        )
        print(json.dumps(rounded({**worst, "cells": results})))
    else:
        show(results)


if __name__ == "__main__":
    main()
