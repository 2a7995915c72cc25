"""Checks devices by their entries and ssh_config alone, before anything is made or measured; nothing is connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.devices.blame import blamed
from harness.devices.registry import WrongEntry
from harness.errors import DeviceError, EntryError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.devices.device import Device
    from harness.devices.registry import Entry, Registry


def select(registry: Registry, selectors: Sequence[str]) -> tuple[Device, ...]:
    """Find the devices that a run measures on, as :meth:`Registry.select` does, and check each as :func:`check` does.

    Raises:
        SelectionError: if a selector matches nothing.
        RegistryError: if something is wrong; it has a line for each fault of each device.
    """
    chosen = registry.choose(selectors)
    check(chosen)
    return tuple(entry for entry in chosen if not isinstance(entry, WrongEntry))


def check(entries: Iterable[Entry]) -> None:
    """Check that what devices.toml and ssh_config say about devices is usable; nothing is connected to.

    Raises:
        RegistryError: if not; it has a line for each fault of each device.
    """
    if found := [fault for entry in entries if (fault := _fault(entry)) is not None]:
        raise RegistryError("\n".join(found))


def _fault(entry: Entry) -> str | None:
    """What is wrong with one device; None if nothing was found."""
    if isinstance(entry, WrongEntry):
        return entry.fault
    if entry.transport == "local":
        return None
    try:
        with blamed(entry.name, "entry"):
            # A run on this machine alone has no use for an SSH library.
            from harness.devices.transports.route import ssh_connection  # noqa: PLC0415

            ssh_connection(entry).close()
    except EntryError as exc:
        return str(exc)
    except DeviceError:
        # Connecting meets it again; then it is that device's failure.
        return None
    return None
