"""How long the digits study takes until every speed-up is known to ±1 %: by the rule of the device, and by a mean in its place, in the same run.

One run measures every pair in all its rounds. Then both rules look at the same processes, one after the other, and say when each pair would have been
measured enough.
"""

from __future__ import annotations

import argparse
import json
import math
import runpy
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy import stats

from harness.cli.progress import watcher
from harness.devices import registry
from harness.judge.effects import seconds_each
from harness.judge.timing import Timing
from harness.measure import request
from harness.paths import RUNNERS
from harness.records import folder
from harness.study import study
from harness.workflow import preflight
from harness.workflow.run import run_study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.records.run import Run

STUDY = Path(__file__).parents[1] / "studies" / "digits" / "study.toml"
NEVER = 1e-9


def by_mean(groups: Sequence[Sequence[float]], quantiles: Sequence[float]) -> float:
    """Half the interval about the mean over rebuilds, as in versions before the trimmed mean; the larger error of rebuilds and processes' means."""
    means = [statistics.fmean(group) for group in groups]
    flat = [value for group in groups for value in group]
    error, count = max((statistics.stdev(values) / math.sqrt(len(values)), -len(values)) for values in (flat, means))
    return quantiles[min(-count - 1, len(quantiles)) - 1] * error


def needed(groups: list[list[float]], precision: float, rule: Callable[..., float]) -> int:
    """After how many processes a pair is known closely enough; all of them if it never is."""
    quantiles = [float(stats.t.ppf(0.975, freedom)) for freedom in range(1, request.QUANTILES + 1)]
    for count in range(request.LEAST_ROUNDS, len(groups) + 1):
        if rule(groups[:count], quantiles) <= math.log1p(precision):
            return count
    return len(groups)


def compared(run: Run, precision: float) -> dict[str, Any]:
    """Both rules on the pairs of a run."""
    names = {case.id: case.name for case in run.cases}
    timing = Timing("local", run.launches, {}, names)
    rules = {"the device's rule": runpy.run_path(str(RUNNERS / "job" / "precision.py"))["half_width"], "a mean": by_mean}
    found: dict[str, Any] = {name: {"seconds": 0.0, "processes": 0, "never": 0} for name in rules}
    replicates: dict[str, Callable[[tuple[str, ...]], list[list[float]]]] = {
        "the device's rule": timing.groups,
        "a mean": lambda unit: _of_rebuilds(timing, unit),
    }
    for unit in run.units:
        groups = timing.groups(unit) if len(unit) > 1 else []
        seconds = seconds_each(timing.launches_of(unit), len(groups))
        if not groups or not all(groups) or seconds is None:
            continue
        for name, rule in rules.items():
            count = needed(replicates[name](unit), precision, rule)
            found[name]["processes"] += count
            found[name]["seconds"] += count * seconds
            found[name]["never"] += count == len(groups) and len(groups) > request.LEAST_ROUNDS
    return found


def _of_rebuilds(timing: Timing, unit: tuple[str, ...]) -> list[list[float]]:
    """One replicate for each rebuild of the sessions: the median over its pairs of blocks."""
    return [
        [
            statistics.median(one - other for one, other in found)
            for rebuild in launch.rebuilds
            if (found := rebuild.log_medians())
        ]
        for launch in timing.launches_of(unit)
    ]


def measured(rounds: int, results: Path) -> Run:
    """Measure the digits study in all its rounds."""
    asked = study.load(STUDY)
    section = asked.measure.model_copy(
        update={"precision": NEVER, "rounds": rounds, "max_time": 3600.0, "throughput": [], "counting": False}
    )
    with watcher() as watching:
        made = preflight.check_inputs(asked.model_copy(update={"measure": section, "claim": []}))
        return run_study(made, [registry.load(None).get("local")], results, watching)[1].run


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--precision", type=float, default=0.01)
    parser.add_argument("--run", type=Path, help="compare on the folder of a finished run, without measuring")
    parser.add_argument("--keep", type=Path, help="keep the run's folder in this one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.run:
        run = folder.load_run(options.run)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            run = measured(options.rounds, options.keep or Path(temporary))
    found = compared(run, options.precision)
    found["ratio"] = found["the device's rule"]["seconds"] / found["a mean"]["seconds"]
    if options.json:
        print(json.dumps(found))
        return
    for name in ("the device's rule", "a mean"):
        row = found[name]
        print(
            f"{name:18} {row['seconds']:7.1f} s, {row['processes']} processes, {row['never']} pairs not within ±{100 * options.precision:g} %"
        )
    print(f"ratio {found['ratio']:.2f}")


if __name__ == "__main__":
    main()
