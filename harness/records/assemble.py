"""Assemble a run from its journal, whether it has just ended or was killed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from harness.measure.events import (
    Begin,
    Counted,
    End,
    Evaluated,
    Event,
    Failed,
    FidelityLine,
    Governor,
    Round,
    SeparateProcesses,
    Throughput,
    Trouble,
)
from harness.measure.launch import BlockPair, Launch, Rebuild
from harness.measure.plan import belongs, misplaced
from harness.measure.route_events import Collected, Connected, DeviceFailed, LeaseLacking, Pushed, Runtimes, Started
from harness.records.run import (
    BlockPairRecord,
    CaseRecord,
    CountRecord,
    DeviceRecord,
    LaunchRecord,
    RebuildRecord,
    ThroughputRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.measure.plan import Case
    from harness.records.run import Run

Key = tuple[str, str]
CaseEvent = Counted | Throughput | Trouble | Evaluated | Failed | FidelityLine


def assemble(run: Run, events: Iterable[Event]) -> Run:
    """Read a journal into a run: its devices' and cases' outcomes, and the launches without their samples."""
    launches: list[LaunchRecord] = []
    of_case: dict[Key, list[CaseEvent]] = defaultdict(list)
    devices = {record.entry.name: record for record in run.devices}
    for event in events:
        if isinstance(event, Launch):
            launches.append(_launch(event))
        elif isinstance(event, Counted | Throughput | Trouble | Evaluated | Failed | FidelityLine):
            of_case[event.device, event.case].append(event)
        elif event.device in devices:
            devices[event.device] = _device(devices[event.device], event)
    by_device: dict[str, list[LaunchRecord]] = defaultdict(list)
    for launch in launches:
        by_device[launch.device].append(launch)
    results = [
        _misplaced(record, case, run)
        or _case(record, case, of_case[record.entry.name, case.id], by_device[record.entry.name], wanted=run.timed)
        for record in devices.values()
        for case in run.cases
        if belongs(case, record.entry)
    ]
    update = {"devices": tuple(devices.values()), "results": tuple(results), "launches": tuple(launches)}
    return run.model_copy(update=update)


def _device(record: DeviceRecord, event: Event) -> DeviceRecord:  # noqa: C901 - a flat list of cases
    """A device's record after an event."""
    match event:
        case Connected() | Begin():
            update: dict[str, object] = {"facts": event.facts}
        case Pushed():
            update = {"files": event.files, "sent_bytes": event.sent_bytes}
        case Round():
            update = {"rounds": event.round + 1}
        case Runtimes():
            update = {"runtimes": event.runtimes}
        case Governor():
            update = {"governor": event}
        case LeaseLacking():
            update = {"lease_lacking": event.reason}
        case SeparateProcesses():
            update = {"separate_processes": (*record.separate_processes, event)}
        case End():
            update = {"ended": event.reason, "state": "stopped" if event.reason == "stopped" else "measured"}
        case Started():
            update = {"state": "pending", "failure": None, "step": None, "reason": None}
        case Collected():
            update = {
                "state": "stopped" if record.ended == "stopped" else "measured",
                "failure": None,
                "step": None,
                "reason": None,
            }
        case DeviceFailed():
            update = {"state": "failed", "failure": event.failure, "step": event.step, "reason": event.reason}
        case _:
            update = {}
    return record.model_copy(update=update)


def _count(event: Counted) -> CountRecord:
    """A process's counts without the single iterations, which stay in the journal: the smallest, for what interrupts only adds."""
    return CountRecord(
        round=event.round,
        counter=event.counter,
        iterations=len(event.instructions),
        instructions=min(event.instructions),
        cycles=min(event.cycles) if event.cycles else None,
        peak_bytes=event.peak_bytes,
    )


def _throughput(event: Throughput) -> ThroughputRecord:
    per_second = 1e9 * event.inferences / event.wall_ns
    return ThroughputRecord(round=event.round, sessions=event.sessions, per_second=per_second, peak_bytes=event.peak_bytes)


def _launch(event: Launch) -> LaunchRecord:
    """A process's measurements without its samples."""
    rebuilds = tuple(_rebuild(rebuild) for rebuild in event.rebuilds)
    used = [
        [pair.samples[index].count for rebuild in event.rebuilds for pair in counting(rebuild)]
        for index in range(len(event.cases))
    ]
    return LaunchRecord(
        device=event.device,
        cases=event.cases,
        separate_processes=event.separate_processes,
        round=event.round,
        rebuilds=rebuilds,
        iterations=tuple(map(sum, used)),
        peak_bytes=event.peak_bytes,
    )


def counting(rebuild: Rebuild) -> list[BlockPair]:
    """The pairs of a rebuild that count: those that were not disturbed, or all if all were."""
    return [pair for pair in rebuild.pairs if not pair.disturbed] or rebuild.pairs


def _rebuild(rebuild: Rebuild) -> RebuildRecord:
    used = {id(pair) for pair in counting(rebuild)}
    return RebuildRecord(
        order=tuple(rebuild.order),
        load_ns=tuple(rebuild.load_ns),
        first_ns=tuple(rebuild.first_ns),
        warmup=tuple(rebuild.warmup),
        steady=tuple(rebuild.steady),
        pairs=tuple(
            BlockPairRecord(
                medians=tuple(pair.medians),
                wall_ns=sum(pair.wall_ns),
                cpu_ns=sum(pair.cpu_ns),
                switches=sum(pair.switches),
                minor_faults=sum(pair.minor_faults),
                major_faults=sum(pair.major_faults),
                before=pair.before,
                after=pair.after,
                disturbed=tuple(pair.disturbed),
                used=id(pair) in used,
            )
            for pair in rebuild.pairs
        ),
    )


def _alone(device: str, case: str, launches: Iterable[LaunchRecord], events: Iterable[CaseEvent]) -> dict[str, Any]:
    """A case's figures from processes in which its session was the first, or the only one."""
    loads, firsts, peaks = [], [], [event.peak_bytes for event in events if isinstance(event, Evaluated | Counted)]
    for event in events:
        if isinstance(event, Evaluated):
            loads.append(event.load_ns)
            firsts.append(event.first_ns)
    for launch in launches:
        rebuild = launch.rebuilds[0]
        if launch.device == device and launch.cases[rebuild.order[0]] == case:
            loads.append(rebuild.load_ns[rebuild.order[0]])
            firsts.append(rebuild.first_ns[rebuild.order[0]])
        if (launch.device, launch.cases) == (device, (case,)):
            peaks.append(launch.peak_bytes)
    peak = max((peak for peak in peaks if peak), default=None)
    return {"load_ns": tuple(loads), "first_ns": tuple(firsts), "peak_bytes": peak}


def _misplaced(device: DeviceRecord, case: Case, run: Run) -> CaseRecord | None:
    """A case whose file was made for another platform than the device's, so it was not measured."""
    reason = misplaced(run.variant(case.variant), device.facts.arch) if device.facts is not None else None
    return CaseRecord(device=device.entry.name, case=case.id, state="impossible", reason=reason) if reason else None


def _case(
    device: DeviceRecord, case: Case, events: Sequence[CaseEvent], launches: Sequence[LaunchRecord], *, wanted: bool
) -> CaseRecord:
    """The outcome of a case; wanted says whether its time is measured."""
    name = device.entry.name
    last: dict[type, Any] = {type(event): event for event in events}
    common: dict[str, Any] = {
        "device": name,
        "case": case.id,
        **_alone(name, case.id, launches, events),
        "peaks": tuple(event.peak_bytes for event in events if isinstance(event, Evaluated) and event.peak_bytes),
        "fidelity": last.get(FidelityLine),
        "graph": last[Evaluated].graph if Evaluated in last else None,
        "counts": tuple(_count(event) for event in events if isinstance(event, Counted)),
        "troubles": tuple(f"{event.what}: {event.kind}: {event.message}" for event in events if isinstance(event, Trouble)),
        "throughput": tuple(_throughput(event) for event in events if isinstance(event, Throughput)),
    }
    if Failed in last:
        return CaseRecord(**common, state="failed", kind=last[Failed].kind, reason=last[Failed].message)
    timed = any(launch.device == name and case.id in launch.cases for launch in launches)
    if timed or common["counts"] or (common["fidelity"] and (device.emulated or not wanted)):
        return CaseRecord(**common, state="measured")
    if device.state == "failed":
        return CaseRecord(**common, state="unmeasured", reason=f"the device failed: {device.step}: {device.reason}")
    reasons = {"max_time": "the time limit was reached (measure.max_time)", "stopped": "interrupted"}
    return CaseRecord(**common, state="unmeasured", reason=reasons.get(device.ended or "", "the run ended before this case"))
