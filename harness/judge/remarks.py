"""Sentences about a device: what happened during the measurement, and why results are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.judge.row import Row
    from harness.judge.timing import Timing
    from harness.records.run import DeviceRecord, Run


def trouble(device: DeviceRecord) -> str | None:
    """Why results are missing, or None."""
    if device.state == "failed":
        return f"{device.step}: {device.reason}"
    if device.state == "pending":
        return "the run has not ended on this device, or was killed; to continue it: harness run --resume"
    return "interrupted before all rounds were done" if device.ended == "stopped" else None


def remarks(run: Run, device: DeviceRecord, timing: Timing, names: Mapping[str, str]) -> list[str]:
    """What a reader must know about the measurement."""
    found = [*timing.disturbances(), *timing.unsteady()]
    reasons: dict[str, list[str]] = {}
    for separate in device.separate_processes:
        reasons.setdefault(separate.reason, []).append(" with ".join(names[case] for case in separate.cases))
    for reason, pairs in reasons.items():
        found.append(f"{', '.join(pairs)}: measured in separate processes, not side by side: {reason}")
    if device.lease_lacking is not None:
        found.append(f"another account could measure on this device at the same time: {device.lease_lacking}")
    governor = device.governor
    if governor is not None and governor.reason:
        found.append(f"the governor could not be set to {governor.governor}: {governor.reason}")
    elif governor is not None:
        found.append(
            f"the governor was set to {governor.governor} for the measurement; before and afterwards, it was {' and '.join(governor.was)}"
        )
    kinds = device.facts.core_kinds if device.facts else []
    if len(kinds) > 1 and device.entry.cpus is None:
        cores = "; ".join(", ".join(map(str, kind.cpus)) for kind in kinds)
        found.append(
            f"the device has {len(kinds)} kinds of cores ({cores}), and a session may move between them: set cpus for this device in devices.toml"
        )
    if run.study.measure.duet == "calls" and timing.launches:
        found.append(
            "measured call by call (measure.duet): each call finds the other model's data in the caches, so the latencies are those of cold caches"
        )
    return found


def unmeasured(device: DeviceRecord, rows: Sequence[Row]) -> list[str]:
    """What is not measured on a device, and why, in sentences."""
    lines = []
    if device.emulated:
        lines.append(f"times are not measured: the device is emulated ({device.emulated})")
        if device.emulated == "wall":
            lines.append(
                "instructions are not counted: the board runs by the host's clock; start it with 'harness board up --clock icount' to count them"
            )
        samples = {row.samples for row in rows if row.samples}
        if samples:
            lines.append(
                f"accuracy, MSE and SQNR are computed over the first {max(samples)} evaluation samples (measure.emulated_samples)"
            )
    elif (facts := device.facts) is not None and facts.uncountable is not None and rows:
        lines.append(f"instructions are not counted: {facts.uncountable}")
    return lines
