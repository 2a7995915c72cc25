"""Who is told how a run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.device import Device
    from harness.measure.events import Event
    from harness.measure.plan import Case
    from harness.quantize.recipe import Variant


class Watcher(Protocol):
    """Is told how a run goes on; methods are called from several threads."""

    def variant(self, variant: Variant, total: int) -> None:
        """A variant is made, or is not."""

    def plan(self, devices: Sequence[Device], cases: Sequence[Case], rounds: int) -> None:
        """Measuring begins."""

    def event(self, event: Event) -> None:
        """Something came from a device; it is on disk already."""
