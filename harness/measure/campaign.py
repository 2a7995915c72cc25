"""The campaign: all devices at the same time, each with its own link, job and place in the journal.

A device that fails takes nothing with it: what it measured is in the journal, and the others go on.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.devices import facts as device_facts
from harness.devices import provision
from harness.devices.link import Link
from harness.errors import BusyError, DeviceError, RunnerError
from harness.measure import lease, pairs, plan
from harness.measure.events import Begin, Busy, Connected, DeviceFailed, End, Evaluated, Event, FidelityLine, Pushed, Runtimes
from harness.measure.journal import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.devices.registry import Device, Registry
    from harness.measure.journal import Journal
    from harness.measure.plan import Case, Inputs
    from harness.quantize.recipe import Variant
    from harness.study import MeasureSection


LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Work:
    """What every device of a campaign gets.

    Attributes:
        cases: what is measured.
        units: which of them side by side.
        variants: by name; those that were made.
        inputs: the evaluation inputs, one file for each set of dimensions.
        measure: how it is measured.
        compare: compares a case's outputs, an .npz file's bytes, with the reference.
        seed: of the random order.
        bar: of a gate; without one, everything is measured to a precision.
    """

    cases: tuple[Case, ...]
    units: tuple[pairs.Unit, ...]
    variants: Mapping[str, Variant]
    inputs: Sequence[Inputs]
    measure: MeasureSection
    compare: Callable[[str, Case, bytes], FidelityLine]
    seed: int
    bar: plan.Bar | None = None

    def files(self) -> dict[str, Path]:
        """The files that a device needs, by sha256."""
        needed = {found.sha256: found.path for found in self.inputs}
        for case in self.cases:
            variant = self.variants[case.variant]
            if variant.sha256 is not None and variant.path is not None:
                needed[variant.sha256] = variant.path
        return needed


class Campaign:
    """One execution of a study on all its devices."""

    def __init__(self, work: Work, registry: Registry, journal: Journal, report: Callable[[Event], None]) -> None:
        self._work, self._registry, self._journal, self._report = work, registry, journal, report
        self._running: dict[str, tuple[Link, str]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._here, self._here_done = False, threading.Event()

    def run(self, devices: Sequence[Device]) -> None:
        """Measure on all devices at once; returns when the last has ended.

        Raises:
            KeyboardInterrupt: after the devices were asked to stop and have.
            ResultsError: if the journal can't be written; the devices are stopped first.
        """
        self._here = any(device.transport == "local" for device in devices)
        with ThreadPoolExecutor(max_workers=len(devices), thread_name_prefix="device") as pool:
            futures = [pool.submit(self._device, device) for device in devices]
            try:
                for future in futures:
                    # Not future.result() alone: it would hold Ctrl-C back until a device answers.
                    while not future.done():
                        wait([future], timeout=0.5)
                    future.result()
            except BaseException:
                self._stop()
                raise

    def _stop(self) -> None:
        """Ask every running job to stop."""
        self._stopping.set()
        # The lock is held until all have answered: a device's thread must not close the link meanwhile.
        with self._lock, ThreadPoolExecutor(max_workers=max(1, len(self._running)), thread_name_prefix="stop") as pool:
            pool.map(_stop_job, self._running.values())

    def _before(self, device: Device) -> None:
        """Let a virtual board of this machine wait until this machine itself is measured: its emulator would be in the way."""
        if device.emulated and device.host in LOOPBACK:
            while self._here and not self._stopping.is_set():
                if self._here_done.wait(0.5):
                    return

    def _note(self, event: Event) -> None:
        """First to the disk, then to the reader."""
        self._journal.write(event)
        self._report(event)

    def _device(self, device: Device) -> None:
        """Carry out the work on one device; its failure is an event."""
        try:
            link = Link(device, self._registry)
            try:
                self._carry_out(device, link)
            finally:
                link.close()
        except DeviceError as exc:
            self._note(DeviceFailed(device=device.name, step=exc.step, reason=exc.reason[:4000]))
        finally:
            if device.transport == "local":
                self._here_done.set()

    def _carry_out(self, device: Device, link: Link) -> None:
        """Probe, push, start, follow, collect."""
        facts = device_facts.check(link.probe(), device.name)
        self._note(Connected(device=device.name, facts=facts))
        hashes: dict[str, str] = {}
        if device.runtimes:
            hashes = provision.beside(link, device.runtimes)
            self._note(Runtimes(device=device.name, runtimes=hashes))
        else:
            device_facts.usable(facts, device.name, link.python, self._work.measure.providers)
        begun = time.monotonic()
        files = self._work.files()
        sent = link.push(files)
        self._note(Pushed(device=device.name, files=len(files), sent_bytes=sent, seconds=time.monotonic() - begun))
        if self._stopping.is_set():
            return
        job = secrets.token_hex(8)
        work = self._work
        asked = plan.request(
            work.cases, work.units, work.variants, work.inputs, work.measure, device, facts, work.seed, hashes, work.bar
        )
        self._before(device)
        link.start(job, {**asked, "who": lease.who()})
        with self._lock:
            self._running[device.name] = (link, job)
        if self._stopping.is_set():
            link.stop(job)
        try:
            with self._limited(device, link, job) as late:
                evaluated = self._follow(device, link, job, late)
        except DeviceError:
            # It may still be running there, unheard.
            with contextlib.suppress(DeviceError):
                link.stop(job)
            raise
        finally:
            with self._lock:
                self._running.pop(device.name, None)
        # Outputs are fetched when nothing is measured any more.
        for case, outputs in evaluated:
            data = link.read_output(job, outputs.outputs.name)
            self._note(work.compare(device.name, case, data))

    @contextlib.contextmanager
    def _limited(self, device: Device, link: Link, job: str) -> Iterator[threading.Event]:
        """Stop the job of an emulated device when the time is up by our clock: its own can be slower by far."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            _stop_job((link, job))

        timer = threading.Timer(self._work.measure.max_time, stop)
        if device.emulated:
            timer.start()
        try:
            yield late
        finally:
            timer.cancel()
            if timer.is_alive():
                timer.join()

    def _follow(self, device: Device, link: Link, job: str, late: threading.Event) -> list[tuple[Case, Evaluated]]:
        """Copy the job's journal into ours until the job has ended."""
        cases = {case.id: case for case in self._work.cases}
        evaluated: list[tuple[Case, Evaluated]] = []
        ended = False
        for said, _offset in link.follow(job):
            event = check(said, device.name)
            if isinstance(event, Busy):
                raise BusyError(device.name, "lease", lease.told(event.holder, device.name))
            if isinstance(event, Begin | End):
                ended = isinstance(event, End)
                if isinstance(event, End) and event.reason == "stopped" and late.is_set():
                    event = event.model_copy(update={"reason": "max_time"})
            elif unknown := {
                getattr(event, "case", None),
                *getattr(event, "cases", ()),
                *(getattr(event, "apart", None) or ()),
            } - {None, *cases}:
                raise RunnerError(
                    device.name, "measure", f"the journal names a case that was not asked for: {unknown.pop()!r:.100}"
                )
            if isinstance(event, Evaluated):
                evaluated.append((cases[event.case], event))
            self._note(event)
        if not ended:
            raise RunnerError(device.name, "measure", "the journal has no end")
        return evaluated


def _stop_job(running: tuple[Link, str]) -> None:
    """Stop a job; a device that can't be asked any more stops by its own limits."""
    link, job = running
    with contextlib.suppress(DeviceError):
        link.stop(job)
