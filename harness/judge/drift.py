"""How far a baseline has drifted since it was saved: its levels then and now. The gate does not use this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.judge.intervals import Estimate, quotient
from harness.records import context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.judge.timing import Timing
    from harness.records.context import Difference
    from harness.records.run import DeviceRecord, Run


# So many times the spread of then, and at least so much, is worth a line.
NOISIER, FAINT = 2.0, 0.005


@dataclass(frozen=True)
class Drift:
    """A baseline's case, then and now.

    Attributes:
        then: its median in milliseconds when it was stored; now: in this session.
        change: now over then, from the two intervals; sessions differ by more than these say (docs/measuring.md).
    """

    case: str
    then: Estimate
    now: Estimate
    change: Estimate


@dataclass(frozen=True)
class Drifts:
    """The drifts on a device, and what changed on it.

    Attributes:
        noise: how far replicates of a pair lay apart when the baseline was stored, and how far now, as shares.
    """

    cases: tuple[Drift, ...] = ()
    differences: tuple[Difference, ...] = ()
    noise: tuple[float, float] | None = None

    @property
    def is_noisier(self) -> bool:
        """Whether the device is so much noisier now that the gate can detect less."""
        return self.noise is not None and is_noisier(*self.noise)


def is_noisier(before: float, now: float) -> bool:
    """Whether a device is so much noisier than before that it can detect less; both are spreads of replicates, as shares."""
    return now > max(NOISIER * before, FAINT)


NONE = Drifts()


def drifts(run: Run, device: DeviceRecord, timing: Timing, names: Mapping[str, str], noise: float | None = None) -> Drifts:
    """Compare a device's baseline cases with the saved baseline.

    Args:
        run: a gate's; any other has none.
        device: of the run.
        timing: the device's.
        names: of the cases, by id, as they are stored, and so without the baseline's mark.
        noise: how far replicates of a pair lie apart now, as a share.
    """
    stored = run.baseline.devices.get(device.entry.name) if run.baseline is not None else None
    now_context = device.context
    if stored is None or now_context is None:
        return NONE
    found = []
    for base in dict.fromkeys(pair[0] for pair in run.units):
        level = stored.levels.get(names[base])
        now = timing.level(base)
        if level is not None and now is not None:
            then = Estimate(level.median, level.low, level.high, 0)
            found.append(Drift(names[base], then, now, quotient(now, then)))
    both = None if noise is None or stored.noise is None else (stored.noise, noise)
    return Drifts(tuple(found), context.differences(stored.context, now_context), both)
