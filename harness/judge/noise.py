"""How noisy a device is: the smallest slowdown that it detects in a given time, what disturbs it, and what to do about it."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.judge import decision
from harness.judge.effects import seconds_each
from harness.judge.intervals import grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.timing import Timing
    from harness.measure.pairs import Pair
    from harness.records.run import BlockPairRecord, LaunchRecord

# For so many seconds of measuring, it is said how small a slowdown can be told, and in what share of the cases.
TIMES, POWER = (10.0, 60.0), 0.95
DRAWS = 500
# A figure for so many times the seconds that were measured gets a caution.
MUCH = 2
# What is worth a line: shares of the blocks or of the time, and interrupts per second of one core.
OFTEN, STOLEN, INTERRUPTS = 0.05, 0.01, 5000
ADVICE = {
    "cpu": "other processes used the processor during {share} of the blocks: stop them, or set cpus in devices.toml to unused cores",
    "faults": "memory had to be read from the disk during {share} of the blocks: free some memory on the device",
    "frequency": 'the clock rate changed during {share} of the blocks: keep it constant with governor = "performance" in devices.toml',
    "throttled": "the device was throttled during {share} of the blocks: cool it, or check its power supply",
    "steal": "the hypervisor took the processor during {share} of the blocks: use a machine with dedicated cores",
}


@dataclass(frozen=True)
class Floor:
    """The smallest slowdown, as a share, that is detected in 95 of 100 cases after so many seconds; None if three launches take longer."""

    seconds: float
    slowdown: float | None


@dataclass(frozen=True)
class Noise:
    """The noise of a device, from a model that was compared with itself.

    Attributes:
        milliseconds: how long the model takes there.
        processes: how many measured it, at so many ``seconds`` each.
        disturbed: the share of the blocks that were disturbed, by cause; ``any`` is that of those with a cause at all.
        stolen: the share of the time of all cores that the hypervisor took; None where the device does not tell.
        interrupts: per second, of all cores together.
        switches: how often per second another process took the core.
        khz: the lowest and the highest clock rate.
        celsius: the highest temperature.
        cores: how many the device has.
    """

    milliseconds: float
    processes: int
    seconds: float
    floors: tuple[Floor, ...]
    disturbed: dict[str, float]
    stolen: float | None
    interrupts: float | None
    switches: float
    khz: tuple[int, int] | None
    celsius: float | None
    cores: int

    @property
    def advice(self) -> tuple[str, ...]:
        """What disturbs the device, and what to do about it, the worst first."""
        found = [
            (share, ADVICE[cause].format(share=f"{100 * share:.0f} %"))
            for cause, share in self.disturbed.items()
            if cause in ADVICE and share >= OFTEN
        ]
        if self.stolen is not None and self.stolen >= STOLEN and self.disturbed.get("steal", 0.0) < OFTEN:
            found.append(
                (self.stolen, f"the hypervisor took {100 * self.stolen:.1f} % of the time: use a machine with dedicated cores")
            )
        if self.interrupts is not None and self.interrupts / self.cores >= INTERRUPTS:
            rate = f"{self.interrupts / self.cores:,.0f} interrupts per second"
            found.append((0.0, f"a core handles {rate} on average: move them to other cores (/proc/irq/*/smp_affinity)"))
        return tuple(words for _, words in sorted(found, reverse=True))

    @property
    def extrapolated(self) -> str | None:
        """A caution where a figure is for a time much longer than was measured; None if none is."""
        measured = self.processes * self.seconds
        far = [floor for floor in self.floors if floor.slowdown is not None and floor.seconds > MUCH * measured]
        if not far:
            return None
        times = " and ".join(f"{floor.seconds:g} s" for floor in far)
        return (
            f"the figure for {times} is extrapolated from {self.processes} launches in {measured:.0f} s, so it is rough: "
            f"give --time {far[-1].seconds:g}s"
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "milliseconds": self.milliseconds,
            "processes": self.processes,
            "seconds_per_process": self.seconds,
            "smallest_slowdown": {f"{floor.seconds:g}": floor.slowdown for floor in self.floors},
            "disturbed": self.disturbed,
            "stolen": self.stolen,
            "interrupts_per_second": self.interrupts,
            "switches_per_second": self.switches,
            "khz": self.khz,
            "celsius": self.celsius,
            "extrapolated": self.extrapolated,
            "advice": self.advice,
        }


def of(timing: Timing, pair: Pair, cores: int) -> Noise | None:
    """Judge a device by a pair of identical models; None with fewer than three launches."""
    groups, launches = timing.groups(pair), timing.launches_of(pair)
    level, seconds = timing.level(pair[1]), seconds_each(launches, len(launches))
    if level is None or seconds is None or len(groups) < decision.FIRST_LOOK or not all(groups):
        return None
    pairs = [pair for launch in launches for rebuild in launch.rebuilds for pair in rebuild.pairs]
    counted = Counter(cause for pair in pairs for cause in pair.disturbed)
    shares = {cause: count / len(pairs) for cause, count in counted.most_common()}
    rates = [pair.after.khz for pair in pairs if pair.after.khz is not None]
    heat = [pair.after.celsius for pair in pairs if pair.after.celsius is not None]
    stolen, interrupts = _per_second(launches, "steal_ns"), _per_second(launches, "interrupts")
    return Noise(
        milliseconds=level.value,
        processes=len(groups),
        seconds=seconds,
        floors=tuple(Floor(time, smallest(groups, int(time / seconds))) for time in TIMES),
        disturbed={"any": sum(bool(pair.disturbed) for pair in pairs) / len(pairs), **shares},
        stolen=None if stolen is None else stolen / 1e9 / cores,
        interrupts=interrupts,
        switches=1e9 * sum(pair.switches for pair in pairs) / sum(pair.wall_ns for pair in pairs),
        khz=(min(rates), max(rates)) if rates else None,
        celsius=max(heat, default=None),
        cores=cores,
    )


def smallest(groups: Sequence[Sequence[float]], processes: int) -> float | None:
    """The smallest slowdown that the gate detects in 95 of 100 draws of so many launches.

    Args:
        groups: the logarithms of two identical models, one list for each process.
        processes: None comes of fewer than three.
    """
    if processes < decision.FIRST_LOOK:
        return None
    chance = random.Random(1)  # noqa: S311 - draws, no secret
    needed = []
    for _ in range(DRAWS):
        # Which of the two is called the first one does not matter: so the noise is as large in both directions.
        drawn = [_turned(group, chance.choice((-1, 1))) for group in chance.choices(groups, k=processes)]
        found = grouped(drawn, decision.LEVEL)
        assert found is not None  # noqa: S101 - three groups, none empty
        assert found.low is not None  # noqa: S101
        needed.append(-math.log(found.low))
    return math.expm1(max(0.0, sorted(needed)[math.ceil(POWER * DRAWS) - 1]))


def _turned(group: Sequence[float], sign: int) -> list[float]:
    return [sign * value for value in group]


def _per_second(launches: Sequence[LaunchRecord], key: str) -> float | None:
    """How fast a counter of the device rose while blocks ran; None if the device does not report it."""
    rises = [_rise(pair, key) for launch in launches for rebuild in launch.rebuilds for pair in rebuild.pairs]
    known = [(rise, wall) for rise, wall in rises if rise is not None]
    return 1e9 * sum(rise for rise, _ in known) / sum(wall for _, wall in known) if known else None


def _rise(pair: BlockPairRecord, key: str) -> tuple[int | None, int]:
    before, after = getattr(pair.before, key), getattr(pair.after, key)
    return (None if before is None or after is None else max(after - before, 0)), pair.wall_ns


def of_run(timing: Timing, pairs: Sequence[Pair]) -> float | None:
    """The spread of replicates on a device: the median over its pairs; None if no pair was measured often enough."""
    found = [_spread(timing.groups(pair)) for pair in pairs if len(pair) > 1]
    known = [each for each in found if each is not None]
    return statistics.median(known) if known else None


def _spread(groups: Sequence[Sequence[float]]) -> float | None:
    """The spread of a pair's replicates: half the range of the middle two thirds, as a share; None for fewer than six."""
    values = sorted(value for group in groups for value in group)
    if len(values) < 2 * decision.FIRST_LOOK:
        return None
    low, high = statistics.quantiles(values, n=6)[0], statistics.quantiles(values, n=6)[-1]
    return math.expm1((high - low) / 2)
