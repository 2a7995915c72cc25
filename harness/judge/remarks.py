"""What happened on a device while it was measured, and why there is nothing or not all, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.judge.timing import Timing
    from harness.records.run import DeviceRecord, Run


def trouble(device: DeviceRecord) -> str | None:
    """Why there is nothing, or not all."""
    if device.state == "failed":
        return f"{device.step}: {device.reason}"
    if device.state == "pending":
        return "the run has not ended there, or was killed: harness run --resume goes on with it"
    return "interrupted before all rounds were done" if device.ended == "stopped" else None


def remarks(run: Run, device: DeviceRecord, timing: Timing, names: Mapping[str, str]) -> list[str]:
    """What happened while measuring that a reader must know."""
    found = [*timing.disturbances(), *timing.unsteady()]
    reasons: dict[str, list[str]] = {}
    for separate in device.separate_processes:
        reasons.setdefault(separate.reason, []).append(" with ".join(names[case] for case in separate.cases))
    for reason, pairs in reasons.items():
        found.append(f"{', '.join(pairs)}: measured in processes that alternate, not side by side: {reason}")
    if device.lease_lacking is not None:
        found.append(f"another account could measure there at the same time: {device.lease_lacking}")
    governor = device.governor
    if governor is not None and governor.reason:
        found.append(f"the governor could not be set to {governor.governor}: {governor.reason}")
    elif governor is not None:
        found.append(f"the governor was {governor.governor} while measuring, {' and '.join(governor.was)} before and after")
    kinds = device.facts.core_kinds if device.facts else []
    if len(kinds) > 1 and device.entry.cpus is None:
        cores = "; ".join(", ".join(map(str, kind.cpus)) for kind in kinds)
        found.append(
            f"its cores are of {len(kinds)} kinds ({cores}), and nothing keeps a session on one: set cpus for it in devices.toml"
        )
    if run.study.measure.duet == "calls" and timing.launches:
        found.append(
            "measured call by call (measure.duet): each model finds the other's data in the caches; levels are those of cold calls"
        )
    return found
