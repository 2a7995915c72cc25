"""The campaign: all devices at the same time, each with its own session and place in the journal.

A device that fails takes nothing with it: what it measured is in the journal, and the others go on.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from harness import leftovers
from harness.devices.blame import blamed
from harness.errors import DeviceError
from harness.measure.progress import Progress
from harness.measure.route_events import DeviceFailed
from harness.measure.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.devices.device import Device
    from harness.measure.events import Event
    from harness.measure.journal import Journal
    from harness.measure.work import Work


LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Campaign:
    """One execution of a study on all its devices."""

    def __init__(self, work: Work, journal: Journal, report: Callable[[Event], None]) -> None:
        self._work, self._journal, self._report = work, journal, report
        self._sessions: list[Session] = []
        self._stopping = threading.Event()
        self._here, self._here_done = False, threading.Event()

    def run(self, devices: Sequence[Device], so_far: Mapping[str, Progress] | None = None) -> None:
        """Measure on all devices at once; returns when the last has ended.

        Args:
            devices: to measure on.
            so_far: how far an earlier controller came, by device; None begins anew.

        Raises:
            KeyboardInterrupt: after the devices were asked to stop and have; at once if a signal had come before.
            ResultsError: if the journal can't be written; the devices are stopped first.
        """
        if leftovers.interrupted.is_set():
            raise KeyboardInterrupt
        self._here = any(device.transport == "local" for device in devices)
        self._sessions = [self._session(device, so_far) for device in devices]
        with ThreadPoolExecutor(max_workers=len(devices), thread_name_prefix="device") as pool:
            try:
                futures = [pool.submit(self._device, session) for session in self._sessions]
                for future in futures:
                    # Not future.result() alone: it would hold Ctrl-C back until a device answers.
                    while not future.done():
                        wait([future], timeout=0.5)
                    future.result()
            except BaseException:
                # On a thread of its own: signals reach the main thread alone, and a second one must not leave a device unasked.
                stopper = threading.Thread(target=self._stop, name="stop")
                stopper.start()
                stopper.join()
                raise

    def _session(self, device: Device, so_far: Mapping[str, Progress] | None) -> Session:
        progress = None if so_far is None else so_far.get(device.name, Progress())
        return Session(self._work, device, self._note, lambda: self._before(device), progress)

    def _stop(self) -> None:
        """Ask every running job to stop."""
        self._stopping.set()
        with ThreadPoolExecutor(max_workers=len(self._sessions), thread_name_prefix="stop") as pool:
            for session in self._sessions:
                pool.submit(session.stop)

    def _before(self, device: Device) -> None:
        """Let a virtual board on this machine wait until this machine itself is measured: its emulator would disturb that."""
        if device.emulated and device.host in LOOPBACK:
            while self._here and not self._stopping.is_set():
                if self._here_done.wait(0.5):
                    return

    def _note(self, event: Event) -> None:
        """Write an event to the disk, then report it."""
        self._journal.write(event)
        # What can't be shown has no say in what is measured.
        with contextlib.suppress(Exception):
            self._report(event)

    def _device(self, session: Session) -> None:
        """Measure on one device; a failure, of any kind, becomes an event."""
        try:
            with blamed(session.device.name, lambda: session.step):
                session.run()
        except DeviceError as exc:
            self._note(DeviceFailed(device=session.device.name, failure=exc.failure, step=exc.step, reason=exc.reason[:4000]))
        finally:
            if session.device.transport == "local":
                self._here_done.set()
