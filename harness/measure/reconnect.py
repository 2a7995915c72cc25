"""A link to a device that is made again when its connection breaks."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from harness.devices.link import Link
from harness.errors import ConnectError, LostError
from harness.measure import stopping
from harness.measure.route_events import Lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.devices.device import Device
    from harness.measure.events import Event

Result = TypeVar("Result")
# A step fails when its connection broke so often without any progress, or can't be made again for ``reconnect_time``.
LOSSES = 3
PAUSE_SECONDS = 1.0


class ReconnectingLink:
    """A connection to a device's agent, which is made again when it breaks.

    Args:
        device: the device.
        note: takes the event of a lost connection.
        stopping: set when no connection may be made again.
        on_reconnected_late: called when the connection was made again although ``stopping`` was set meanwhile.
    """

    def __init__(
        self,
        device: Device,
        note: Callable[[Event], None],
        stopping: threading.Event,
        on_reconnected_late: Callable[[], None],
    ) -> None:
        self._device, self._note = device, note
        self._stopping, self._on_reconnected_late = stopping, on_reconnected_late
        self._link: Link | None = None
        self._losses = 0
        # Held while a job is asked to stop: the link must not be closed meanwhile.
        self._lock = threading.Lock()

    @property
    def python(self) -> str:
        """The Python that runs the agent on the device."""
        return self._open().python

    def connect(self) -> None:
        """Make the first connection.

        Raises:
            DeviceError: if it can't be made.
        """
        self._link = Link(self._device)

    def close(self) -> None:
        """Close the connection, once no job is being asked to stop over it."""
        with self._lock:
            if self._link is not None:
                self._link.close()
                self._link = None

    def run(self, step: Callable[[Link], Result]) -> Result:
        """Do a step. If the connection breaks, make it again and repeat the step, which continues from where it was.

        Raises:
            DeviceError: if the step fails, or the connection breaks too often or can't be made again.
        """
        self._losses = 0
        while True:
            try:
                return step(self._open())
            except LostError as exc:
                self.close()
                self._losses += 1
                if self._losses > LOSSES or self._stopping.is_set():
                    raise
                self._note(Lost(device=self._device.name, step=exc.step, reason=exc.reason[:4000]))
                self._reconnect(exc)

    def progressed(self) -> None:
        """Forget earlier losses: the step has made progress since."""
        self._losses = 0

    def stop_job(self, job: str, seconds: float) -> str | None:
        """Ask a job to stop, as :func:`~harness.measure.stopping.stop` does; the connection is not closed meanwhile."""
        with self._lock:
            return stopping.stop(self._link, self._device, job, seconds)

    def _open(self) -> Link:
        if self._link is None:
            raise LostError(self._device.name, "connect", "the connection is gone")
        return self._link

    def _reconnect(self, lost: LostError) -> None:
        """Connect as soon as the device can be reached.

        Raises:
            LostError: the one given, if the device can't be reached for ``reconnect_time``.
        """
        patience = self._device.reconnect_time
        deadline = time.monotonic() + patience
        while not self._stopping.wait(PAUSE_SECONDS):
            try:
                link = Link(self._device)
            except ConnectError as exc:
                if time.monotonic() > deadline:
                    reason = f"{lost.reason}; reconnecting failed within {patience:g} s: {exc.reason}"
                    raise LostError(lost.device, lost.step, reason) from exc
            else:
                with self._lock:
                    self._link = link
                if self._stopping.is_set():
                    self._on_reconnected_late()
                return
        raise lost
