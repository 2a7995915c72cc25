"""Find the devices that a command works with; wrong entries of other devices only give a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli import command as shared
from harness.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from harness.devices.device import Device
    from harness.devices.registry import Registry


def selected(path: Path | None, selectors: Sequence[str]) -> tuple[Registry, tuple[Device, ...]]:
    """Read devices.toml, and find the devices to measure on.

    Raises:
        UsageError: a member of its branch, if there is no such device, or if what the files say of one of them is wrong.
    """
    from harness.devices import preflight
    from harness.devices import registry as registries

    known = registries.load(path)
    chosen = preflight.select(known, selectors)
    warn(known, [device.name for device in chosen])
    return known, chosen


def one(path: Path | None, name: str) -> tuple[Registry, Device]:
    """Read devices.toml, and find one device.

    Raises:
        UsageError: a member of its branch, if there is no such device, or if its entry is wrong.
    """
    from harness.devices import registry as registries

    known = registries.load(path)
    device = known.get(name)
    warn(known, [name])
    return known, device


def warn(known: Registry, used: Iterable[str]) -> None:
    """Warn about wrong entries of devices that are not used."""
    for entry in known.wrong:
        if entry.name not in used:
            lines = [f"warning: {line}" for line in entry.fault.splitlines()]
            shared.say_error("\n".join(lines), Exit.PASSED, as_json=False)
