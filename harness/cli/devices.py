"""harness devices."""

from __future__ import annotations

from harness.cli import command as shared
from harness.errors import Exit


@shared.command
def devices(
    device: shared.Devices = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """List the devices, whether they can be reached, and what they are.

    Exit code: 0 all reachable, 2 wrong usage or input, 3 one is not.
    """
    from harness.cli.grid import console, grid
    from harness.devices import registry as registries
    from harness.devices.probe import probe_all

    known = registries.load(registry)
    chosen = known.select(device) if device else tuple(known.devices.values())
    found = probe_all(chosen, known)
    if as_json:
        shared.say_json({"registry": str(known.path) if known.path else None, "devices": [answer.as_json() for answer in found]})
    else:
        titles = ["device", "host", "tags", "state", "arch", "CPU", "cores", "governor", "°C", "memory", "Python", "onnxruntime"]
        console().print(grid(titles, [answer.cells() for answer in found]))
        for answer in found:
            if answer.error is not None:
                shared.say_error(str(answer.error), Exit.INCOMPLETE, as_json=False)
    return Exit.INCOMPLETE if any(answer.error is not None for answer in found) else Exit.PASSED
