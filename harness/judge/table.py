"""The judgement of one device: its rows, remarks, checks and drifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.judge import gate, noise
from harness.judge.drift import NONE, Drifts, drifts
from harness.judge.remarks import remarks, trouble, unmeasured
from harness.judge.row import Row, reference_of, rows
from harness.judge.shortfall import Shortfall, shortfall
from harness.judge.timing import Timing
from harness.measure.pairs import BASELINE, REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.judge.check import Check
    from harness.judge.intervals import Estimate
    from harness.records.run import DeviceRecord, Run
    from harness.records.samples import LaunchKey


@dataclass(frozen=True)
class PairRatio:
    """The ratio of a pair other than a case and fp32; 2 means that ``second`` is twice as fast as ``first``.

    Attributes:
        separate_processes: measured in separate processes that took turns, not side by side.
    """

    first: str
    second: str
    ratio: Estimate | None
    separate_processes: bool = False


@dataclass(frozen=True)
class Table:
    """The judgement of one device.

    Attributes:
        trouble: why results are missing; None if the device did everything.
        shortfall: what is less precise than required, because the time or the rounds were used up.
        emulated: what emulates the device; its times are not latencies and are left out.
        pairs: what was measured side by side beside the speed-ups.
        remarks: what happened while measuring.
        unmeasured: what is not measured there, and why.
        checks: of a release gate; drifts: what became of its baseline since it was stored.
        noise: how far the replicates of a pair lie apart, as a share; None if none was measured often enough.
        incomplete: whether it failed, has nothing to show, or did not end its part of a gate, which is no pass whatever was measured before.
    """

    device: DeviceRecord
    rows: tuple[Row, ...]
    trouble: str | None = None
    shortfall: Shortfall | None = None
    emulated: str | None = None
    pairs: tuple[PairRatio, ...] = ()
    remarks: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    drifts: Drifts = NONE
    noise: float | None = None
    incomplete: bool = False


def table(run: Run, device: DeviceRecord, quantiles: Mapping[LaunchKey, tuple[float, ...]]) -> Table:
    """Judge a device on its own.

    Args:
        run: with its outcomes.
        device: which of its devices.
        quantiles: p90 and p99 of each launch, in nanoseconds.
    """
    names = {case.id: case.name for case in run.cases}
    timing = Timing(device.entry.name, () if device.emulated else run.launches, quantiles, names)
    # A baseline's cases are stored without the mark that tells them from the candidate's here.
    stored = {case.id: case.name.removeprefix(BASELINE) for case in run.cases}
    spread = noise.of_run(timing, run.units)
    found = tuple(rows(run, device.entry.name, timing))
    checks = gate.checks(run, device, quantiles)
    is_gate = run.baseline is not None
    return Table(
        device=device,
        rows=found,
        trouble=trouble(device),
        shortfall=None if gate.is_decided(checks) else shortfall(run, device, timing, names, REFERENCE),
        emulated=device.emulated,
        pairs=() if device.emulated or is_gate else tuple(_pairs(run, device, timing, names)),
        remarks=tuple(remarks(run, device, timing, names)),
        unmeasured=tuple(unmeasured(device, found)),
        checks=checks,
        drifts=drifts(run, device, timing, stored, spread),
        noise=spread,
        incomplete=device.state == "failed" or (is_gate and device.state != "measured") or not (checks if is_gate else found),
    )


def _pairs(run: Run, device: DeviceRecord, timing: Timing, names: Mapping[str, str]) -> Iterator[PairRatio]:
    """Yield the ratios of the pairs that no row has as its speed-up."""
    cases = {case.id: case for case in run.cases}
    mine = [record.case for record in run.results if record.device == device.entry.name]
    shown = {(reference_of(cases[case], run.cases), case) for case in mine}
    separate = {each.cases for each in device.separate_processes}
    for pair in run.units:
        if len(pair) > 1 and pair not in shown:
            yield PairRatio(names[pair[0]], names[pair[1]], timing.ratio(pair), pair in separate)
