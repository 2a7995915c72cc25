"""A run's journal → its outcome: the same for a run that just ended and for one that was killed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from harness.measure.journal import (
    Begin,
    Block,
    Connected,
    Counted,
    DeviceFailed,
    End,
    Event,
    Failed,
    FidelityLine,
    Pushed,
    Round,
)
from harness.records.run import BlockRecord, CaseRecord, CountRecord, DeviceRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.measure.plan import Case
    from harness.records.run import Run


def assemble(run: Run, events: Iterable[Event]) -> tuple[Run, list[Block]]:
    """Read a journal into a run.

    Returns:
        The run with its devices' and cases' outcomes, and the blocks with their samples.
    """
    blocks: dict[tuple[str, str], list[Block]] = defaultdict(list)
    counts: dict[tuple[str, str], list[CountRecord]] = defaultdict(list)
    failures: dict[tuple[str, str], Failed] = {}
    fidelities: dict[tuple[str, str], FidelityLine] = {}
    devices = {record.entry.name: record for record in run.devices}
    for event in events:
        if isinstance(event, Block):
            blocks[event.device, event.case].append(event)
        elif isinstance(event, Counted):
            counts[event.device, event.case].append(_count(event))
        elif isinstance(event, Failed):
            failures[event.device, event.case] = event
        elif isinstance(event, FidelityLine):
            fidelities[event.device, event.case] = event
        elif event.device in devices:
            devices[event.device] = _device(devices[event.device], event)
    results = []
    for record in devices.values():
        for case in run.cases:
            key = (record.entry.name, case.id)
            kept = {"fidelity": fidelities.get(key), "counts": tuple(counts.get(key, []))}
            found = _case(record, case, blocks.get(key, []), failures.get(key), kept)
            results.append(found)
    whole = run.model_copy(update={"devices": tuple(devices.values()), "results": tuple(results)})
    return whole, [block for found in blocks.values() for block in found]


def _device(record: DeviceRecord, event: Event) -> DeviceRecord:
    """A device's record after an event."""
    match event:
        case Connected() | Begin():
            update: dict[str, object] = {"facts": event.facts}
        case Pushed():
            update = {"files": event.files, "sent_bytes": event.sent_bytes}
        case Round():
            update = {"rounds": event.round + 1}
        case End():
            update = {"ended": event.reason, "state": "stopped" if event.reason == "stopped" else "measured"}
        case DeviceFailed():
            update = {"state": "failed", "step": event.step, "reason": event.reason}
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


def _case(device: DeviceRecord, case: Case, blocks: list[Block], failure: Failed | None, kept: dict[str, Any]) -> CaseRecord:
    """What became of a case."""
    timed = tuple(
        BlockRecord(iterations=len(block.ns), **block.model_dump(include=set(BlockRecord.model_fields) - {"iterations"}))
        for block in sorted(blocks, key=lambda block: block.round)
    )
    common = {"device": device.entry.name, "case": case.id, "blocks": timed, **kept}
    if failure is not None:
        return CaseRecord(**common, state="failed", kind=failure.kind, reason=failure.message)
    if blocks or kept["counts"] or (device.emulated and kept["fidelity"]):
        return CaseRecord(**common, state="measured")
    if device.state == "failed":
        return CaseRecord(**common, state="unmeasured", reason=f"the device failed: {device.step}: {device.reason}")
    reasons = {"max_time": "the time was up (measure.max_time)", "stopped": "interrupted"}
    return CaseRecord(**common, state="unmeasured", reason=reasons.get(device.ended or "", "the run did not get there"))
