"""What is missing when the time or the rounds of a device are used up: imprecise figures, and how to continue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.text import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.judge.timing import Timing
    from harness.records.run import DeviceRecord, Run

# An interval is symmetric on the logarithms, where the device looks at it.
SLACK = 1.02
NAMED = 3
LOST = {"failed", "impossible"}
MINUTE = 60


@dataclass(frozen=True)
class Figure:
    """A speed-up, or the latency of a case that is measured alone.

    Attributes:
        name: of the case; of two cases where neither is fp32.
        reached: half its 95 % interval relative to the figure; None where too few launches allow no interval.
        measured: whether there is a figure at all.
    """

    name: str
    reached: float | None
    measured: bool = True

    def __str__(self) -> str:
        """The name and the precision, as part of a sentence."""
        reached = "without an interval" if self.reached is None else f"±{percent(self.reached)}"
        return f"{self.name}: {reached if self.measured else 'not measured'}"


@dataclass(frozen=True)
class Shortfall:
    """The figures of a device that are less precise than the study requires.

    Attributes:
        run: the run's name, for the command that goes on with it; None for a gate, which is measured anew.
        seconds: the time that was up; None where the rounds were used up.
        rounds: how many there were.
        precision: what was asked: half a 95 % interval, relative.
        imprecise: the figures that are less precise, the worst first.
        figures: how many there are.
        noun: what they are.
    """

    run: str | None
    seconds: float | None
    rounds: int
    precision: float
    imprecise: tuple[Figure, ...]
    figures: int
    noun: str

    @property
    def sentence(self) -> str:
        """How precise the figures are, and how to continue."""
        rounds = f"{self.rounds} round{'' if self.rounds == 1 else 's'}"
        stop = f"Stopped after {rounds}"
        if self.seconds:
            stop = (
                f"Stopped after {duration(self.seconds)} (max_time), {f'with {rounds}' if self.rounds else 'in the first round'}"
            )
        if self.imprecise:
            named = "; ".join(map(str, self.imprecise[:NAMED])) + ("; …" if len(self.imprecise) > NAMED else "")
            verb = "is" if len(self.imprecise) == 1 else "are"
            what = f"{len(self.imprecise)} of {self.figures} {self.noun} {verb} less precise than ±{percent(self.precision)} ({named})"
        else:
            what = "not everything that the study requires was measured"
        return f"{stop}: {what}. {self.advice}"

    @property
    def advice(self) -> str:
        """The command that continues the measurement."""
        if self.run is None:
            return "To decide, give a longer --max-time."
        return f"To go on: harness run --resume {self.run}" if self.seconds else "To measure more closely, give more --rounds."


def shortfall(run: Run, device: DeviceRecord, timing: Timing, names: Mapping[str, str], reference: str) -> Shortfall | None:
    """The shortfall of a device; None if everything is as precise as required, or if the device failed.

    Args:
        run: with its outcomes.
        device: which of its devices.
        timing: of that device.
        names: of the cases, by id.
        reference: the variant that speed-ups are against.
    """
    is_out_of_time = device.state == "measured" and device.ended == "max_time"
    is_out_of_rounds = device.state == "measured" and device.rounds >= run.study.measure.rounds and not run.baseline
    if not is_out_of_time and not is_out_of_rounds:
        return None
    failed = {record.case for record in run.results if record.device == device.entry.name and record.state in LOST}
    units = [unit for unit in run.units if not device.emulated and not failed.intersection(unit)]
    variants = {case.id: case.variant for case in run.cases}
    found = []
    for unit in units:
        known = timing.ratio(unit) if len(unit) > 1 else timing.level(unit[0])
        is_speedup = len(unit) > 1 and variants[unit[0]] == reference
        name = names[unit[-1]] if len(unit) == 1 or is_speedup else f"{names[unit[1]]} against {names[unit[0]]}"
        found.append(Figure(name, known.half_width if known else None, measured=known is not None))
    precision = run.study.measure.precision
    # A gate measures until it can decide, however wide an interval is then.
    imprecise = [each for each in found if each.reached is None or each.reached > SLACK * precision] if not run.baseline else []
    if not is_out_of_time and not imprecise:
        return None
    imprecise.sort(key=lambda each: (each.measured, each.reached is not None, -(each.reached or 0)))
    lengths = {len(unit) for unit in units}
    noun = "speed-ups" if lengths == {2} else "latencies" if lengths == {1} else "figures"
    return Shortfall(
        run=None if run.baseline else run.id,
        seconds=run.study.measure.max_time if is_out_of_time else None,
        rounds=device.rounds,
        precision=precision,
        imprecise=tuple(imprecise),
        figures=len(found),
        noun=noun,
    )


def duration(seconds: float) -> str:
    """Seconds as a study writes them: ``90s``, ``3m``."""
    return f"{seconds / MINUTE:g}m" if seconds >= MINUTE and seconds % MINUTE == 0 else f"{seconds:g}s"
