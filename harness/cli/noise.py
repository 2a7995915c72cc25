"""harness devices --noise: what is shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.cli import command as shared
from harness.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.judge.noise import Noise
    from harness.records.run import DeviceRecord

MINUTE = "1m"
EMULATED = "not measured: emulated"
LONGER = "not known, because three processes take longer"


def measure(device: Sequence[str] | None, registry: Path | None, time: str | None, *, as_json: bool) -> Exit:
    """Measure the devices' noise and show it.

    Raises:
        UsageError: a member of its branch, for devices or a time that are none.
    """
    from harness import noise
    from harness.cli import known as registered
    from harness.cli import progress
    from harness.cli import target as targets

    seconds = targets.duration(time or MINUTE, "--time")
    known, devices = registered.selected(registry, device or _all(registry))
    with progress.watcher() as watcher:
        found = noise.measure(devices, known, seconds, watcher)
    if as_json:
        shared.say_json({"devices": [_as_json(record, each) for record, each in found]})
    else:
        for record, each in found:
            _print(record, each)
    missing = [record for record, each in found if each is None and not record.entry.emulated]
    if missing and all(record.step == "lease" for record in missing):
        return Exit.BUSY
    return Exit.INCOMPLETE if missing else Exit.PASSED


def _all(registry: Path | None) -> list[str]:
    """The names of all devices whose entries are right."""
    from harness.devices import registry as registries

    known = registries.load(registry)
    wrong = {entry.name for entry in known.wrong}
    return [name for name in known.entries if name not in wrong]


def _as_json(record: DeviceRecord, found: Noise | None) -> dict[str, Any]:
    told = found.as_json() if found else {"reason": _reason(record)}
    return {"device": record.entry.name, **told}


def _reason(record: DeviceRecord) -> str:
    """Why there is no figure."""
    if record.entry.emulated:
        return EMULATED
    if record.reason:
        return f"{record.step}: {record.reason}" if record.step else record.reason
    return "fewer than three processes could measure in this time: give a longer --time"


def _print(record: DeviceRecord, found: Noise | None) -> None:
    from harness.cli.grid import console

    screen, name = console(), record.entry.name
    if found is None:
        screen.print(f"{name}: {_reason(record)}", markup=False, soft_wrap=True)
        return
    told = [f"after {each.seconds:g} s: {LONGER if each.slowdown is None else _percent(each.slowdown)}" for each in found.floors]
    screen.print(
        f"{name}: the smallest slowdown that it detects in 95 of 100 cases, {'; '.join(told)}", markup=False, soft_wrap=True
    )
    seen = [
        f"{_percent(found.disturbed['any'])} of the blocks were disturbed",
        f"{found.switches:,.0f} switches to other processes per second",
    ]
    seen += [] if found.stolen is None else [f"{_percent(found.stolen)} of the time stolen by the hypervisor"]
    seen += [] if found.interrupts is None else [f"{found.interrupts:,.0f} interrupts per second"]
    seen += [] if found.khz is None else [f"{found.khz[0] / 1e6:.2f} to {found.khz[1] / 1e6:.2f} GHz"]
    seen += [] if found.celsius is None else [f"up to {found.celsius:.0f} °C"]
    screen.print(
        f"  a model of {found.milliseconds:.3g} ms was compared with itself in {found.processes} processes; {', '.join(seen)}",
        markup=False,
        soft_wrap=True,
    )
    for line in found.advice or ("nothing disturbs the device much",):
        screen.print(f"  {line}", markup=False, soft_wrap=True)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
