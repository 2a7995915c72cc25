"""harness devices."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import command as shared
from harness.cli.study_options import Wait
from harness.errors import Exit, UsageError

# Below it, columns would be folded until nobody can read them.
TABLE_WIDTH = 160


@shared.showing
def devices(
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME|@TAG", help="Ask these devices only; may be repeated. [default: all]"),
    ] = None,
    noise: Annotated[
        bool,
        typer.Option(
            "--noise",
            help="Measure how small a slowdown each device can detect, and what disturbs it, by comparing a small model with itself.",
        ),
    ] = False,
    time: Annotated[
        str | None, typer.Option("--time", metavar="TIME", help="How long --noise measures, such as 30s or 5m. [default: 1m]")
    ] = None,
    wait: Wait = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Ask all devices at once whether they can be reached, whether they are busy, and what they are.

    A device whose entry in devices.toml is wrong, or whose ssh_config can't be followed, is shown with the state 'wrong entry'.

    Exit code: 0 all can be reached (some may be busy), 2 wrong usage or input, 3 a device can't be reached. With --noise: 3 a device
    was not measured, 75 a device was not measured because it is busy, 130 interrupted.
    """
    if noise:
        from harness.cli import noise as noises

        return noises.measure(device, registry, time, wait, as_json=as_json)
    if time is not None:
        message = "--time needs --noise, because it is the duration of that measurement"
        raise UsageError(message)
    if wait is not None:
        message = "--wait needs --noise: only measuring waits for a device that is busy"
        raise UsageError(message)
    from harness.cli import known as registered
    from harness.cli.grid import console, grid
    from harness.devices import registry as registries
    from harness.devices.probe import probe_all

    known = registries.load(registry)
    chosen = known.choose(device) if device else tuple(known.entries.values())
    registered.warn(known, [entry.name for entry in chosen])
    found = probe_all(chosen)
    if as_json:
        shared.say_json({"registry": str(known.path) if known.path else None, "devices": [answer.as_json() for answer in found]})
    else:
        screen = console()
        if screen.width >= TABLE_WIDTH:
            rows = [answer.cells() for answer in found]
            screen.print(grid(list(rows[0]), [list(row.values()) for row in rows]))
        else:
            screen.print(
                grid(["device", "state", "what it is"], [[each.device.name, each.state, each.sentence()] for each in found])
            )
        for answer in found:
            name = answer.device.name
            if answer.busy is not None:
                screen.print(f"{name} is busy: {answer.busy}; {answer.how_to_end}", markup=False)
            if answer.error is not None:
                shared.say_error(str(answer.error), Exit.INCOMPLETE, as_json=False)
    return Exit.INCOMPLETE if any(answer.error is not None for answer in found) else Exit.PASSED
