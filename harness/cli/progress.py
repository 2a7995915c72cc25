"""Show the progress of a run on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from harness.devices.lease import holder
from harness.measure.events import Counted, End, Evaluated, Failed, Round, SeparateProcesses, Throughput, Trouble
from harness.measure.launch import Launch
from harness.measure.route_events import Connected, DeviceFailed, Lost, Provisioned, Pushed, Waiting
from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import TaskID

    from harness.devices.device import Device
    from harness.measure.events import Event
    from harness.measure.plan import Case
    from harness.quantize.recipe import Variant
    from harness.workflow.watcher import Watcher


@contextlib.contextmanager
def watcher() -> Iterator[Watcher]:
    """Choose the watcher for stderr."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    with Bars() as bars:
        yield bars


class Lines:
    """One line for each step, on stderr."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._rounds = 0

    def say(self, text: str) -> None:
        """Write one line."""
        with self._lock:
            sys.stderr.write(" ".join(sanitize(text).split()) + "\n")
            sys.stderr.flush()

    def variant(self, variant: Variant, total: int) -> None:
        """A variant was made, or could not be made."""
        self.say(f"variant {variant.name}: {variant.state} (of {total})" + (f": {variant.reason}" if variant.reason else ""))

    def plan(self, devices: Sequence[Device], cases: Sequence[Case], rounds: int) -> None:
        """Measuring begins."""
        self._names = {case.id: case.name for case in cases}
        self._rounds = rounds
        self.say(f"measuring {len(cases)} cases on {', '.join(device.name for device in devices)}")

    def event(self, event: Event) -> None:
        """An event of a device."""
        text = describe(event, self._names, self._rounds)
        if text is not None:
            self.say(f"{event.device}: {text}")


class Bars:
    """A bar for each device, on stderr; important lines scroll above the bars."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._names: dict[str, str] = {}
        self._rounds = 0

    def __enter__(self) -> Self:
        self._progress.start()
        self._variants = self._progress.add_task("making variants", total=None)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._progress.stop()

    def variant(self, variant: Variant, total: int) -> None:
        """A variant was made, or could not be made."""
        self._progress.update(self._variants, total=total, advance=1, description=f"making variants: {escape(variant.name)}")
        if variant.state == "failed":
            self._progress.console.print(
                f"variant {escape(variant.name)}: failed: {escape(sanitize(variant.reason or ''))}", soft_wrap=True
            )

    def plan(self, devices: Sequence[Device], cases: Sequence[Case], rounds: int) -> None:
        """Measuring begins."""
        self._progress.remove_task(self._variants)
        self._names = {case.id: case.name for case in cases}
        self._rounds = rounds
        # How many visits precision takes, nobody knows before.
        self._tasks = {device.name: self._progress.add_task(f"{device.name}: connecting", total=None) for device in devices}

    def event(self, event: Event) -> None:
        """An event of a device."""
        task = self._tasks[event.device]
        done = 1 if isinstance(event, Launch | Evaluated | Counted | Throughput) else 0
        text = {
            "connected": "pushing",
            "pushed": "starting",
            "waiting": "waiting in the queue",
            "lost": "reconnecting",
            "evaluated": "accuracy",
            "counted": "counting instructions",
            "throughput": "measuring throughput",
            "end": "fetching outputs",
            "fidelity": "comparing outputs",
        }.get(event.event)
        if isinstance(event, Launch):
            text = _round(event.round, self._rounds)
        elif isinstance(event, Failed | DeviceFailed | Connected | Lost | Waiting | Provisioned):
            self._progress.console.print(
                f"{event.device}: {escape(sanitize(describe(event, self._names, self._rounds) or ''))}", soft_wrap=True
            )
        self._progress.update(task, advance=done)
        if text is not None:
            self._progress.update(task, description=f"{event.device}: {text}")


def describe(event: Event, names: dict[str, str], rounds: int) -> str | None:
    """Describe an event; None for unimportant events."""
    match event:
        case Connected(facts=facts):
            runtime = facts.onnxruntime.version or "none"
            return f"connected: {facts.cpu_model or facts.arch}, {facts.cores} cores, onnxruntime {runtime}"
        case Pushed():
            return f"pushed {event.files} files, {event.sent_bytes / 1e6:.1f} MB sent in {event.seconds:.1f} s"
        case Round():
            return f"{_round(event.round, rounds)} done after {event.elapsed:.0f} s"
        case End(reason=reason) if reason != "stopped":
            return f"{'time limit reached' if reason == 'max_time' else 'everything is measured'}; fetching outputs"
        case DeviceFailed():
            return f"failed: {event.step}: {event.reason}"
    return _describe_way(event) or _describe_case(event, names)


def _round(number: int, rounds: int) -> str:
    """Name a round; without a limit of rounds, as when the time alone ends it, by its number only."""
    if not rounds:
        return f"round {number + 1}"
    # A gate's second set of launches has rounds of its own, numbered on.
    return f"{'confirming: ' if number >= rounds else ''}round {number % rounds + 1} of at most {rounds}"


def _describe_way(event: Event) -> str | None:
    """Describe an event of the connection to a device."""
    match event:
        case Provisioned():
            return f"had no onnxruntime: installed {event.onnxruntime} in {event.seconds:.0f} s"
        case Waiting():
            return f"waiting: the device is busy with another job ({holder(event.holder)})"
        case Lost():
            return f"{event.step}: {event.reason}; reconnecting"
    return None


def _describe_case(event: Event, names: dict[str, str]) -> str | None:
    """Describe the result of a case."""
    match event:
        case Evaluated():
            return f"{names[event.case]}: outputs computed"
        case Counted():
            return f"{names[event.case]}: {min(event.instructions) / 1e6:.2f} million instructions"
        case Throughput():
            per_second = 1e9 * event.inferences / event.wall_ns
            return f"{names[event.case]}: {per_second:.1f} inferences per second in {event.sessions} sessions"
        case SeparateProcesses():
            return f"{' and '.join(names[case] for case in event.cases)}: measured in separate processes: {event.reason}"
        case Trouble() | Failed():
            what = f"{event.what}: " if isinstance(event, Trouble) else ""
            return f"{names[event.case]}: {what}{event.kind} failed: {event.message}"
    return None
