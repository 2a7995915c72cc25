"""harness devices --noise: its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from harness.cli import command as shared
from harness.cli.study_options import duration
from harness.errors import Exit, Failure
from harness.text import percent, sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.judge.noise import Noise
    from harness.workflow.noise import Finding

MINUTE = "1m"
LONGER = "unknown, because three launches take longer"


def measure(device: Sequence[str] | None, registry: Path | None, time: str | None, wait: str | None, *, as_json: bool) -> Exit:
    """Measure how noisy devices are, and show it.

    Raises:
        UsageError: a member of its branch, if there is no such device, or a time can't be read.
    """
    from harness.cli import progress
    from harness.cli.known import warn
    from harness.devices import registry as registries
    from harness.workflow import noise

    seconds = duration(time or MINUTE, "--time")
    patience = duration(wait, "--wait") if wait is not None else 0.0
    known = registries.load(registry)
    chosen = known.choose(device) if device else tuple(known.entries.values())
    warn(known, [entry.name for entry in chosen])
    with progress.watcher() as watcher:
        found = noise.measure(chosen, seconds, patience, watcher)
    if as_json:
        shared.say_json({"devices": [_as_json(each) for each in found]})
    else:
        for each in found:
            _print(each.name, each.noise) if each.noise else typer.echo(sanitize(f"{each.name}: {each.reason}"))
    missing = [each for each in found if each.noise is None and each.reason != noise.EMULATED]
    if missing and all(each.failure == Failure.BUSY for each in missing):
        return Exit.BUSY
    return Exit.INCOMPLETE if missing else Exit.PASSED


def _as_json(found: Finding) -> dict[str, Any]:
    return {"device": found.name, **(found.noise.as_json() if found.noise else {"reason": found.reason})}


def _print(name: str, found: Noise) -> None:
    from harness.cli.grid import console
    from harness.report.numbers import number

    screen = console()
    told = [f"after {each.seconds:g} s: {LONGER if each.slowdown is None else percent(each.slowdown)}" for each in found.floors]
    screen.print(
        f"{name}: smallest slowdown that the device detects in 95 of 100 cases: {'; '.join(told)}", markup=False, soft_wrap=True
    )
    seen = [
        f"{percent(found.disturbed['any'])} of the blocks were disturbed",
        f"{found.switches:,.0f} switches to other processes per second",
    ]
    seen += [] if found.stolen is None else [f"the hypervisor took {percent(found.stolen)} of the time"]
    seen += [] if found.interrupts is None else [f"{found.interrupts:,.0f} interrupts per second"]
    seen += [] if found.khz is None else [f"{found.khz[0] / 1e6:.2f} to {found.khz[1] / 1e6:.2f} GHz"]
    seen += [] if found.celsius is None else [f"up to {found.celsius:.0f} °C"]
    screen.print(
        f"  a model of {number(found.milliseconds)} ms was compared with itself in {found.processes} launches; {', '.join(seen)}",
        markup=False,
        soft_wrap=True,
    )
    if found.extrapolated:
        screen.print(f"  {found.extrapolated}", markup=False, soft_wrap=True)
    for line in found.advice or ("nothing disturbs the device much",):
        screen.print(f"  {line}", markup=False, soft_wrap=True)
