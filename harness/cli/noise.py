"""harness devices --noise: its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from harness.cli import command as shared
from harness.cli.study_options import duration
from harness.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.judge.noise import Noise
    from harness.workflow.noise import Finding

MINUTE = "1m"
LONGER = "unknown, because three launches take longer"


def measure(device: Sequence[str] | None, registry: Path | None, time: str | None, *, as_json: bool) -> Exit:
    """Measure how noisy devices are, and show it.

    Raises:
        UsageError: a member of its branch, if there is no such device, or the time can't be read.
    """
    from harness.cli import progress
    from harness.cli.known import selected
    from harness.judge.outcome import is_busy
    from harness.workflow import noise

    seconds = duration(time or MINUTE, "--time")
    _, devices = selected(registry, device or _all(registry))
    with progress.watcher() as watcher:
        found = noise.measure(devices, seconds, watcher)
    if as_json:
        shared.say_json({"devices": [_as_json(each) for each in found]})
    else:
        for each in found:
            name = each.device.entry.name
            _print(name, each.noise) if each.noise else typer.echo(f"{name}: {each.reason}")
    missing = [each.device for each in found if each.noise is None and not each.device.entry.emulated]
    if is_busy(missing):
        return Exit.BUSY
    return Exit.INCOMPLETE if missing else Exit.PASSED


def _all(registry: Path | None) -> list[str]:
    """The names of all devices with valid entries."""
    from harness.devices import registry as registries

    known = registries.load(registry)
    wrong = {entry.name for entry in known.wrong}
    return [name for name in known.entries if name not in wrong]


def _as_json(found: Finding) -> dict[str, Any]:
    return {"device": found.device.entry.name, **(found.noise.as_json() if found.noise else {"reason": found.reason})}


def _print(name: str, found: Noise) -> None:
    from harness.cli.grid import console

    screen = console()
    told = [f"after {each.seconds:g} s: {LONGER if each.slowdown is None else _percent(each.slowdown)}" for each in found.floors]
    screen.print(
        f"{name}: smallest slowdown that the device detects in 95 of 100 cases: {'; '.join(told)}", markup=False, soft_wrap=True
    )
    seen = [
        f"{_percent(found.disturbed['any'])} of the blocks were disturbed",
        f"{found.switches:,.0f} switches to other processes per second",
    ]
    seen += [] if found.stolen is None else [f"the hypervisor took {_percent(found.stolen)} of the time"]
    seen += [] if found.interrupts is None else [f"{found.interrupts:,.0f} interrupts per second"]
    seen += [] if found.khz is None else [f"{found.khz[0] / 1e6:.2f} to {found.khz[1] / 1e6:.2f} GHz"]
    seen += [] if found.celsius is None else [f"up to {found.celsius:.0f} °C"]
    screen.print(
        f"  a model of {found.milliseconds:.3g} ms was compared with itself in {found.processes} launches; {', '.join(seen)}",
        markup=False,
        soft_wrap=True,
    )
    for line in found.advice or ("nothing disturbs the device much",):
        screen.print(f"  {line}", markup=False, soft_wrap=True)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
