"""The interface of a watcher, which shows the progress of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.device import Device
    from harness.measure.events import Event
    from harness.measure.plan import Case
    from harness.quantize.recipe import Variant


class Watcher(Protocol):
    """Shows the progress of a run; its methods are called from several threads."""

    def variant(self, variant: Variant, total: int) -> None:
        """A variant was made, or could not be made."""

    def plan(self, devices: Sequence[Device], cases: Sequence[Case], rounds: int) -> None:
        """Measuring begins."""

    def event(self, event: Event) -> None:
        """An event of a device, which is already on disk."""
