"""Tries estimators and stopping rules on what ``validity.py --keep`` wrote: which one is right, sharp and quick on a noisy machine?

Each candidate says how a block is summed up, what a replicate is, where the middle of the replicates is, and how far off that may be. All of
them decide over the same drawn processes, at the same looks. Two conditions are made of the quiet samples here, as no program can make
them on every machine: "ramp" multiplies all times by what a machine that warms up does (20 % slower within two minutes), and "clock"
by what a clock that switches between two rates does (1 and 0.8, for 0.2 to 5 s each).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from arguments import at_least, cells_of, rounded, writable
from middles import ERRORS, MIDDLES
from scipy import stats

from harness.measure.launch import Launch
from harness.records.assemble import counting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


SLOWDOWNS = (0.0, 0.02, 0.03, 0.05)
LIMIT, FIRST, FIXED, MOST = 0.02, 3, 6, 40
RAMP, RAMP_SECONDS = 0.2, 120
SLOW_CLOCK, CLOCK_SECONDS = 0.8, (0.2, 5.0)
INJECTED = ("ramp", "clock")
# Samples of a process that its p99 takes.
ENOUGH = 100
# Two more: the median of the first half of a block, as of a shorter one; and of all blocks, those that were disturbed too.
HALF, ALL = "first half", "disturbed too"
BLOCKS = {"median": 50, "p25": 25, "p10": 10, "min": 0}


@dataclass
class Process:
    """One launch.

    Attributes:
        pairs: by how a block is summed up, for each rebuild: the logarithms of second over first, one for each pair of blocks.
    """

    seconds: float
    pairs: dict[str, list[np.ndarray]] = field(default_factory=dict)


def processes(said: Sequence[tuple[dict[str, Any], float]], injected: str | None) -> list[Process]:
    """Read a cell; the injected factor follows the time at which a block ran."""
    chance, found, now = random.Random(7), [], 0.0
    switches = [0.0]
    while switches[-1] < sum(seconds for _, seconds in said):
        switches.append(switches[-1] + chance.uniform(*CLOCK_SECONDS))
    for line, seconds in said:
        launch = Launch.model_validate({**line, "device": "here", "round": 0})
        made = Process(seconds, {block: [] for block in (*BLOCKS, HALF, ALL)})
        total = sum(len(rebuild.pairs) for rebuild in launch.rebuilds)
        pooled: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        number = 0
        for rebuild in launch.rebuilds:
            rows: dict[str, list[float]] = {block: [] for block in made.pairs}
            kept = {id(pair) for pair in counting(rebuild)}
            for pair in rebuild.pairs:
                at = now + seconds * (number + np.array([0.25, 0.75])[np.argsort(pair.order)]) / total
                number += 1
                both = [
                    _factor(float(when), injected, switches) * np.asarray(samples.nanoseconds)
                    for when, samples in zip(at, pair.samples, strict=True)
                ]
                rows[ALL].append(_log_ratio(both, BLOCKS["median"]))
                if id(pair) not in kept:
                    continue
                for index, samples in enumerate(both):
                    pooled[index].append(samples)
                rows[HALF].append(_log_ratio([samples[: (len(samples) + 1) // 2] for samples in both], BLOCKS["median"]))
                for block, percent in BLOCKS.items():
                    rows[block].append(_log_ratio(both, percent))
            for block, values in rows.items():
                made.pairs[block].append(np.array(values))
        base, more = (np.concatenate(each) for each in pooled)
        if min(len(base), len(more)) >= ENOUGH:
            # Of a process's p99 there is one.
            made.pairs["p99"] = [np.array([math.log(float(np.percentile(more, 99)) / float(np.percentile(base, 99)))])]
        now += seconds
        found.append(made)
    return found


def _log_ratio(both: Sequence[np.ndarray], percent: int) -> float:
    one, other = (float(np.percentile(samples, percent)) for samples in both)
    return math.log(other / one)


def _factor(when: float, injected: str | None, switches: list[float]) -> float:
    if injected == "ramp":
        return 1 + RAMP * min(when % (2 * RAMP_SECONDS), 2 * RAMP_SECONDS - when % (2 * RAMP_SECONDS)) / RAMP_SECONDS
    if injected == "clock":
        return 1 / SLOW_CLOCK if int(np.searchsorted(switches, when)) % 2 else 1.0
    return 1.0


REPLICATES: dict[str, Callable[[np.ndarray], list[float]]] = {"rebuild": lambda pairs: [float(np.median(pairs))], "pair": list}


@dataclass(frozen=True)
class Candidate:
    """A block's summary, a replicate, a middle, an error, and the boundary of the looks."""

    block: str
    replicate: str
    middle: str
    error: str
    boundary: str = "pocock"

    @property
    def name(self) -> str:
        """Of its row."""
        return ", ".join(
            (self.block, self.replicate, self.middle, self.error, *([self.boundary] if self.boundary != "pocock" else []))
        )


def reach(boundary: str, error: float, freedom: float, looks: int) -> float:
    """How far a bound is from the middle at a look: Pocock's constant, or an asymptotic confidence sequence.

    The sequence is Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021 (arXiv:2103.06476), after Howard et al. 2021, one-sided at 1 %.
    """
    if boundary == "pocock":
        return _t(0.9975, freedom) * error
    rho2, alpha = 1 / 8, 0.02
    scaled = looks * rho2 + 1
    return _t(0.975, freedom) / 1.96 * error * math.sqrt(2 * scaled / (looks * rho2) * math.log(math.sqrt(scaled) / alpha))


_CACHE: dict[tuple[float, int], float] = {}


def _t(level: float, freedom: float) -> float:
    key = (level, int(freedom))
    if key not in _CACHE:
        _CACHE[key] = float(stats.t.ppf(level, max(int(freedom), 1)))
    return _CACHE[key]


class Replay:
    """One candidate on one cell: decisions again and again over drawn processes."""

    def __init__(self, measured: Sequence[Process], candidate: Candidate, *, real: bool) -> None:
        self._candidate, self._real = candidate, real
        self._seconds = [each.seconds for each in measured]
        choose = REPLICATES[candidate.replicate]
        self._values = [
            np.array([value for pairs in each.pairs[candidate.block] for value in choose(pairs)]) for each in measured
        ]

    def run(self, replays: int) -> dict[str, Any]:
        """What became of so many decisions."""
        chance = random.Random(1)
        found = []
        for _ in range(replays):
            drawn = chance.choices(range(len(self._values)), k=MOST)
            roles = [1 if self._real else chance.choice((-1, 1)) for _ in drawn]
            found.append(self._decisions(drawn, roles))
        looks, ends = [each[0] for each in found], [each[1] for each in found]
        first = [each[0] for each in ends]
        shown = {
            "open": sum(each[0] == "open" for each in first) / replays,
            "seconds": statistics.median(each[1] for each in first),
        }
        if self._real:
            seen = math.expm1(statistics.median(each[2] for each in first))
            return {**shown, "slower": sum(each[0] == "slower" for each in first) / replays, "seen": seen}
        alarms = [sum(each[index][0] == "slower" for each in ends) / replays for index in range(len(SLOWDOWNS))]
        covered = sum(abs(centre) <= half for centre, half in looks) / replays
        return {**shown, "alarms": alarms, "coverage": covered, "half": statistics.median(half for _, half in looks)}

    def _look(self, drawn: Sequence[int], roles: Sequence[int]) -> tuple[float, float, float]:
        """The middle, its error and the degrees of freedom."""
        parts = [role * self._values[index] for index, role in zip(drawn, roles, strict=True)]
        groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        centre, influence, freedom = MIDDLES[self._candidate.middle](np.concatenate(parts))
        return centre, *ERRORS[self._candidate.error](influence, groups, freedom)

    def _decisions(
        self, drawn: Sequence[int], roles: Sequence[int]
    ) -> tuple[tuple[float, float], list[tuple[str, float, float]]]:
        """The middle and half of the 95 % interval at a fixed number of processes; verdict, seconds and middle for each slowdown."""
        ends: dict[int, tuple[str, float, float]] = {}
        shares = SLOWDOWNS[:1] if self._real else SLOWDOWNS
        fixed = (0.0, 0.0)
        for count in range(FIRST, MOST + 1):
            centre, error, freedom = self._look(drawn[:count], roles[:count])
            if count == FIXED:
                fixed = (centre, _t(0.975, freedom) * error)
            away = reach(self._candidate.boundary, error, freedom, count)
            seconds = sum(self._seconds[index] for index in drawn[:count])
            for index in set(range(len(shares))) - set(ends):
                shifted = centre + math.log1p(shares[index])
                if shifted - away > math.log1p(LIMIT):
                    ends[index] = ("slower", seconds, centre)
                elif shifted + away < math.log1p(LIMIT):
                    ends[index] = ("passed", seconds, centre)
            if len(ends) == len(shares) and count >= FIXED:
                break
        return fixed, [ends.get(index, ("open", seconds, centre)) for index in range(len(shares))]


def candidates() -> list[Candidate]:
    """Those that are worth a comparison: a mean over rebuilds, the rule that is used, and what differs from that in one thing each."""
    used = Candidate("median", "pair", "trimmed 20", "larger")
    found = [Candidate("median", "rebuild", "mean", "larger"), used, replace(used, replicate="rebuild")]
    found += [replace(used, block=block) for block in (*BLOCKS, HALF, ALL) if block != used.block]
    found += [replace(used, middle=middle) for middle in MIDDLES if middle != used.middle]
    found += [replace(used, error=error) for error in ERRORS if error != used.error]
    found.append(replace(used, boundary="sequence"))
    return found + [Candidate("p99", "rebuild", middle, "larger") for middle in ("mean", "trimmed 20", "huber")]


def _cell(task: tuple[str, list[Any], str | None, int, bool]) -> dict[str, Any]:
    _, said, injected, replays, real = task
    measured = processes(said, injected)
    known = [each for each in candidates() if all(each.block in process.pairs for process in measured)]
    return {each.name: Replay(measured, each, real=real).run(replays) for each in known}


def main() -> None:
    """Replay, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", type=cells_of, nargs="+")
    parser.add_argument("--replays", type=at_least(1), default=400)
    parser.add_argument("--json", type=writable)
    options = parser.parse_args()
    tasks: list[tuple[str, list[Any], str | None, int, bool]] = []
    for kept in options.kept:
        for cell, said in kept.items():
            what, _, state = cell.rpartition(", ")
            real = what not in {"mlp", "cnn", "large-cnn"}
            tasks.append((cell, said, None, options.replays, real))
            if state == "quiet" and not real:
                tasks += [(f"{what}, {injected}", said, injected, options.replays, real) for injected in INJECTED]
    with ProcessPoolExecutor() as pool:
        found = dict(zip([task[0] for task in tasks], pool.map(_cell, tasks), strict=True))
    if options.json:
        options.json.write_text(json.dumps(rounded(found)))
    for cell, rows in found.items():
        print(f"\n{cell}")
        for name, row in rows.items():
            if "seen" in row:
                print(
                    f"  {name:45} slower {100 * row['slower']:5.1f} %  open {100 * row['open']:5.1f} %  {row['seconds']:6.1f} s  seen {100 * row['seen']:+5.2f} %"
                )
            else:
                powers = " ".join(f"{100 * share:5.1f}" for share in row["alarms"][1:])
                print(
                    f"  {name:45} false {100 * row['alarms'][0]:4.1f}  power {powers}  open {100 * row['open']:5.1f}  {row['seconds']:6.1f} s  cover {100 * row['coverage']:5.1f}  ±{100 * row['half']:5.2f} %"
                )


if __name__ == "__main__":
    main()
