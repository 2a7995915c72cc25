"""How often a pair of identical models agrees within 1 % after 1, 3 and 10 seconds: ours, and tango's method (github.com/bazhenov/tango).

Tango says of itself: "a 1 % change in performance within just 1 second in at least 9 out of 10 test runs". It calls both functions in turn in one
process, takes the differences of each pair of calls, leaves out those that lie 1.5 interquartile ranges beyond the quartiles (as many on both sides), and
takes the mean of the rest. Here that is done with two sessions of the same model, call by call (``turns``), in a fresh process for each run. Ours are
duets of blocks with sessions made anew, in as many processes as fit into the time, one at the least.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cells import inputs_of, launches
from conditions import condition
from models import CNN, MLP, make_models

from harness.judge.intervals import spread
from harness.measure.launch import Launch as LaunchEvent
from harness.records.assemble import counting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cells import Launch

SECONDS, WITHIN = (1.0, 3.0, 10.0), 0.01
CONDITIONS = ("quiet", "two neighbours")
# Enough for the longest time; the warm-up comes before.
LONGEST = 10.5
DRAWS = 2000


def differences(line: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Nanoseconds of both models, call by call, of a process that called them in turn."""
    launch = LaunchEvent.model_validate({**line, "device": "here", "round": 0})
    pairs = [pair for rebuild in launch.rebuilds for pair in rebuild.pairs]
    first, second = (np.concatenate([pair.samples[index].nanoseconds for pair in pairs]).astype(float) for index in (0, 1))
    return first, second


def tango(first: np.ndarray, second: np.ndarray) -> float:
    """Tango's estimate: the mean difference without outliers, over the first one's mean, as a share."""
    apart = np.sort(second - first)
    low, high = apart[len(apart) // 4], apart[len(apart) * 3 // 4 - 1]
    reach = 1.5 * max(high - low, 1.0)
    cut = min(int(np.searchsorted(apart, low - reach)), len(apart) - int(np.searchsorted(apart, high + reach)))
    return float(apart[cut : len(apart) - cut].mean() / first.mean())


def tangos(kept: Sequence[Launch]) -> dict[str, float]:
    """The share of the runs that agree within 1 % after each time."""
    found = {}
    for seconds in SECONDS:
        hits = 0
        for line, _ in kept:
            first, second = differences(line)
            count = int(np.searchsorted(np.cumsum(first + second), seconds * 1e9))
            hits += abs(tango(first[:count], second[:count])) < WITHIN
        found[f"{seconds:g}"] = hits / len(kept)
    return found


def ours(kept: Sequence[Launch]) -> dict[str, float]:
    """The same of our estimate, over draws of as many processes as fit into the time."""
    chance, found = random.Random(1), {}
    groups = [_replicates(line) for line, _ in kept]
    each = float(np.median([seconds for _, seconds in kept]))
    for seconds in SECONDS:
        count = max(1, int(seconds / each))
        centres = [spread([_turned(group, chance) for group in chance.choices(groups, k=count)])[0] for _ in range(DRAWS)]
        found[f"{seconds:g}"] = sum(abs(math.expm1(centre)) < WITHIN for centre in centres) / DRAWS
    return found


def _replicates(line: dict[str, Any]) -> list[float]:
    launch = LaunchEvent.model_validate({**line, "device": "here", "round": 0})
    return [math.log(pair.medians[1] / pair.medians[0]) for rebuild in launch.rebuilds for pair in counting(rebuild)]


def _turned(group: list[float], chance: random.Random) -> list[float]:
    sign = chance.choice((-1, 1))
    return [sign * value for value in group]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12, help="of tango's method, 10 s each (default: 12)")
    parser.add_argument("--processes", type=int, default=40, help="of ours (default: 40)")
    parser.add_argument("--ours", type=Path, help="take ours from what validity.py --keep wrote, without measuring")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    there = json.loads(options.ours.read_text()) if options.ours else {}
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_models(folder)
        for state in CONDITIONS:
            for name in (MLP, CNN):
                copy = folder / f"{name}-copy.onnx"
                shutil.copy(folder / f"{name}.onnx", copy)
                files = (folder / f"{name}.onnx", copy, inputs_of(folder, name))
                turns: dict[str, Any] = {"turns": True, "rebuilds": 1, "pairs": 1, "block": LONGEST, "launch": LONGEST}
                cell = f"{name}, {state}"
                with condition(state):
                    theirs = list(launches(*files, options.runs, **turns))
                    own = there.get(cell) or list(launches(*files, options.processes))
                results[cell] = {"ours": ours(own), "tango's": tangos(theirs)}
    if options.json:
        print(json.dumps(results))
        return
    for cell, rules in results.items():
        for rule, shares in rules.items():
            print(f"{cell:22} {rule:8} " + "  ".join(f"{seconds:>3} s {100 * share:5.1f} %" for seconds, share in shares.items()))


if __name__ == "__main__":
    main()
