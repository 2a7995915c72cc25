"""One device's part of a campaign: probe, push, start a job, follow its journal, and fetch its outputs."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from typing import TYPE_CHECKING

from harness import leftovers
from harness.devices import facts as device_facts
from harness.devices import protocol
from harness.devices.provisioning import provision
from harness.errors import BusyError, DeviceError, DiedError, HostKeyError, LostError, RunnerError
from harness.measure import lease, request
from harness.measure.events import Begin, End, Event
from harness.measure.journal import check, check_cases
from harness.measure.progress import Progress
from harness.measure.reconnect import ReconnectingLink
from harness.measure.route_events import Busy, Collected, Connected, Lost, Provisioned, Pushed, Runtimes, Started, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from protocol import Order

    from harness.devices.device import Device
    from harness.devices.facts import Facts
    from harness.devices.link import Link
    from harness.measure.work import Work

# A job ends itself after its longest time. If it still runs so much later, it hangs.
GRACE_SECONDS = 60.0
TURN_SECONDS = 2.0
# If a job of this run holds the device through another entry for the same machine, each look extends the wait by so much.
OWN_SECONDS = 10.0
KEPT = "what was measured is kept; to continue: harness run --resume {}"
RESUME = "what was measured is kept, and the device may continue to measure; to fetch its results: harness run --resume {}"


class Session:
    """Measures on one device.

    Args:
        work: what is measured.
        device: the device.
        note: takes events, first to the disk.
        before: returns when measuring may begin.
        progress: how far an earlier controller came.

    Attributes:
        step: what is being done.
    """

    def __init__(
        self,
        work: Work,
        device: Device,
        note: Callable[[Event], None],
        before: Callable[[], None],
        progress: Progress | None = None,
    ) -> None:
        self.device = device
        self._work, self._note, self._before = work, note, before
        self._resumed = progress is not None
        self._progress = progress or Progress()
        self._running: str | None = None
        self.step = "connect"
        self._longest = request.longest(work.measure, len(work.cases)) + GRACE_SECONDS
        self._hung = False
        self._left: str | None = None
        self._stopping = threading.Event()
        self._link = ReconnectingLink(device, note, self._stopping, self._end)

    def run(self) -> None:
        """Measure on the device.

        Raises:
            DeviceError: if the device, or the way to it, fails for good.
        """
        if self._progress.collected:
            return
        self._link.connect()
        try:
            self._carry_out()
        finally:
            self._link.close()

    def stop(self) -> None:
        """Start nothing more, and ask the job to stop."""
        self._stopping.set()
        self._end()

    def _end(self) -> None:
        """Ask the job to stop. If the device can't be reached, the job ends by its own limits."""
        if self._running is not None:
            self._left = self._link.stop_job(self._running, self._work.measure.max_time)

    def _carry_out(self) -> None:
        """Do the steps in their order."""
        self.step = "probe"
        facts = self._link.run(lambda link: device_facts.fitting(link.probe(), self.device))
        self._progress.refuse_another(facts, self.device.name)
        self._note(Connected(device=self.device.name, facts=facts))
        self.step = "lease"
        self._await(facts.holder)
        self.step = "provision"
        facts, hashes = self._runtimes(facts)
        self.step = "push"
        begun = time.monotonic()
        files = self._work.files(facts.arch)
        sent = self._link.run(lambda link: link.push(files))
        self._note(Pushed(device=self.device.name, files=len(files), sent_bytes=sent, seconds=time.monotonic() - begun))
        if self._stopping.is_set():
            return
        self.step = "measure"
        self._before()
        if self._progress.ended in {None, "stopped"}:
            self._measure(facts, hashes)
        # Outputs are fetched when nothing is measured any more.
        self.step = "collect"
        self._collect()

    def _await(self, holder: str | None) -> None:
        """Wait while another job is being measured on the device: sending files would disturb it."""
        device, told = self.device.name, None
        patience = self._work.measure.wait or 0
        begun = time.monotonic()
        deadline = begun + patience
        while holder is not None and not (self._progress.job and self._progress.job in holder):
            # A job of this run itself, by another entry for the same machine, is always waited for.
            if lease.is_ours(holder):
                deadline = max(deadline, min(begun + self._longest, time.monotonic() + OWN_SECONDS))
            if time.monotonic() >= deadline:
                raise BusyError(device, "lease", lease.busy_message(holder, device, patience))
            if holder != told:
                self._note(Waiting(device=device, holder=holder))
                told = holder
            if self._stopping.wait(TURN_SECONDS):
                return
            holder = self._link.run(lambda link: link.holder())

    def _runtimes(self, facts: Facts) -> tuple[Facts, dict[str, str]]:
        """Provision the runtimes that the device compares, or one if it has none.

        Returns:
            The facts after that, and the hashes of the runtimes by version.
        """
        device = self.device
        if device.runtimes:
            hashes = self._link.run(lambda link: provision.beside(link, device.runtimes))
            self._note(Runtimes(device=device.name, runtimes=hashes))
            return facts, hashes
        if facts.onnxruntime.version is None and device.transport != "local":
            brought = self._link.run(provision.bring)
            self._note(Provisioned(device=device.name, onnxruntime=brought.onnxruntime, seconds=brought.seconds))
            facts = self._link.run(lambda link: device_facts.fitting(link.probe(), device))
            self._note(Connected(device=device.name, facts=facts))
        device_facts.usable(facts, device.name, device.python or self._link.python, self._work.measure.providers)
        return facts, {}

    def _measure(self, facts: Facts, hashes: dict[str, str]) -> None:
        """Follow the job that an earlier controller started, or start a new one."""
        if self._progress.job is not None and self._progress.ended is None:
            with contextlib.suppress(DiedError):
                if self._link.run(lambda link: link.has(self._progress.job or "")):
                    self._follow(self._progress.job)
                    return
                gone = "the job is no longer on the device; what it had not sent is measured again"
                self._note(Lost(device=self.device.name, step="resume", reason=gone))
        first_round = self._progress.next_round
        work = self._work
        asked = request.request(work, self.device, facts, hashes)
        if self._resumed:
            asked |= {
                "first_round": first_round,
                "rounds": max(0, work.measure.rounds - first_round),
                "seed": work.seed + first_round,
            }
        job = secrets.token_hex(8)
        self._record(
            Started(device=self.device.name, job=job, inputs=[found.sha256 for found in work.inputs], protocol=protocol.PROTOCOL)
        )
        order: Order = {**asked, "who": lease.controller(), "wait": work.measure.wait or 0}
        self._running = job
        self._link.run(lambda link: link.start(job, order, work.files(facts.arch)))
        if self._stopping.is_set():
            self.stop()
        self._follow(job)

    def _behind(self, job: str) -> str:
        """What is left on the device if this process is killed now."""
        name, limit = self.device.name, self._work.measure.max_time
        return f"{name}: job {job} continues to measure for up to {limit:g} s; to end it: harness device release {name}"

    def _follow(self, job: str) -> None:
        """Copy a job's journal into the run's journal until the job has ended."""
        self._running = job
        try:
            with self._limited() as late, leftovers.noted(self._behind(job)):
                self._link.run(lambda link: self._read(link, job, late))
        except LostError as exc:
            left = self._left or self._kept(KEPT if self._stopping.is_set() else RESUME)
            raise LostError(exc.device, exc.step, f"{exc.reason}; {left}") from exc
        except HostKeyError as exc:
            raise HostKeyError(exc.device, exc.step, f"{exc.reason}; {self._kept(RESUME)}") from exc
        except DiedError as exc:
            hung = f"it did not end within {self._longest:g} s, and was killed: " if self._hung else ""
            raise DiedError(exc.device, exc.step, f"{hung}{exc.reason}; {self._kept(KEPT)}") from exc
        except DeviceError:
            # It may still be running there, unheard.
            self._end()
            raise
        finally:
            self._running = None
        if self._progress.ended is None:
            raise RunnerError(self.device.name, "measure", "the journal is incomplete")
        if self._progress.ended == "stopped" and not self._stopping.is_set():
            raise RunnerError(
                self.device.name,
                "measure",
                f"the job was ended on the device, as by 'harness device release'; {self._kept(KEPT)}",
            )

    def _read(self, link: Link, job: str, late: threading.Event) -> None:
        """Copy the journal from where the last connection broke."""
        cases = {case.id for case in self._work.cases}
        for said, offset in link.follow(job, self._progress.offset):
            event = check(said, self.device.name).model_copy(update={"offset": offset})
            if isinstance(event, Begin):
                protocol.check_job(said, self.device.name, "measure", job)
            if isinstance(event, Busy):
                raise BusyError(
                    self.device.name, "lease", lease.busy_message(event.holder, self.device.name, self._work.measure.wait)
                )
            if isinstance(event, End) and event.reason == "stopped" and late.is_set():
                event = event.model_copy(update={"reason": "max_time"})
            check_cases(event, cases, self.device.name)
            self._record(event)
            self._link.progressed()

    def _collect(self) -> None:
        """Fetch all outputs and compare them with the reference."""
        self._link.run(self._fetch)
        self._record(Collected(device=self.device.name, job=self._progress.job or ""))

    def _fetch(self, link: Link) -> None:
        """Fetch the outputs that were not compared yet, in one call, and compare them."""
        cases = {case.id: case for case in self._work.cases}
        lacking = [
            (case, found.outputs.name) for case, found in self._progress.evaluated.items() if case not in self._progress.compared
        ]
        if lacking:
            outputs = link.read_outputs(self._progress.job or "", [name for _, name in lacking])
            for (case, _), data in zip(lacking, outputs, strict=True):
                self._record(
                    self._work.compare(
                        self.device.name, cases[case], data, self._progress.differing(cases[case], self._work.cases)
                    )
                )
                self._link.progressed()

    def _kept(self, words: str) -> str:
        """The next step. `harness check` cannot be resumed, so it must be run again."""
        return words.format(self._work.run) if self._work.bar is None else "run the gate again"

    def _record(self, event: Event) -> None:
        """Write an event to the journal, then to the progress."""
        self._note(event)
        self._progress.add(event)

    @contextlib.contextmanager
    def _limited(self) -> Iterator[threading.Event]:
        """Stop the job by the controller's clock: on an emulated device, whose clock can be much slower, when its time is up; on others when it hangs."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._hung = not self.device.emulated
            self._end()

        timer = threading.Timer(
            (self._longest if not self.device.emulated else self._work.measure.max_time) + (self._work.measure.wait or 0), stop
        )
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()
            if timer.is_alive():
                timer.join()
