"""How far a baseline has drifted since it was stored: its levels then and now. It is told apart from the gate, which it never touches."""

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
    """A device's drifts, and what became different there."""

    cases: tuple[Drift, ...] = ()
    differences: tuple[Difference, ...] = ()


NONE = Drifts()


def drifts(run: Run, device: DeviceRecord, timing: Timing, names: Mapping[str, str]) -> Drifts:
    """Compare a device's baseline cases with what is stored of them.

    Args:
        run: a gate's; any other has none.
        device: of the run.
        timing: the device's.
        names: of the cases, by id, as they are stored, and so without the baseline's mark.
    """
    stored = run.baseline.devices.get(device.entry.name) if run.baseline is not None else None
    now_context = device.context
    if stored is None or now_context is None:
        return NONE
    found = []
    for base in dict.fromkeys(unit[0] for unit in run.units):
        level = stored.levels.get(names[base])
        now = timing.level(base)
        if level is not None and now is not None:
            then = Estimate(level.median, level.low, level.high, 0)
            found.append(Drift(names[base], then, now, quotient(now, then)))
    return Drifts(tuple(found), context.differences(stored.context, now_context))
