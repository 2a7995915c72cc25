"""How a run shows that it goes on: bars on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from harness.measure.journal import Block, Connected, Counted, DeviceFailed, End, Evaluated, Failed, Pushed, Round

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import TaskID

    from harness.devices.registry import Device
    from harness.measure.journal import Event
    from harness.measure.plan import Case
    from harness.quantize.recipe import Variant
    from harness.workflow import Watcher


@contextlib.contextmanager
def watcher() -> Iterator[Watcher]:
    """Give the watcher that suits stderr."""
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
            sys.stderr.write(" ".join(text.split()) + "\n")
            sys.stderr.flush()

    def variant(self, variant: Variant, total: int) -> None:
        """A variant is made, or is not."""
        self.say(f"variant {variant.name}: {variant.state} (of {total})" + (f": {variant.reason}" if variant.reason else ""))

    def plan(self, devices: Sequence[Device], cases: Sequence[Case], rounds: int) -> None:
        """Measuring begins."""
        self._names = {case.id: case.name for case in cases}
        self._rounds = rounds
        self.say(f"measuring {len(cases)} cases in {rounds} rounds on {', '.join(device.name for device in devices)}")

    def event(self, event: Event) -> None:
        """Something came from a device."""
        text = describe(event, self._names, self._rounds)
        if text is not None:
            self.say(f"{event.device}: {text}")


class Bars:
    """A bar for each device, on stderr; what is worth keeping scrolls above them."""

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
        """A variant is made, or is not."""
        self._progress.update(self._variants, total=total, advance=1, description=f"making variants: {escape(variant.name)}")
        if variant.state == "failed":
            self._progress.console.print(
                f"variant {escape(variant.name)}: failed: {escape(variant.reason or '')}", soft_wrap=True
            )

    def plan(self, devices: Sequence[Device], cases: Sequence[Case], rounds: int) -> None:
        """Measuring begins."""
        self._progress.remove_task(self._variants)
        self._names = {case.id: case.name for case in cases}
        self._rounds = rounds
        total = len(cases) * (rounds + 1)
        self._tasks = {device.name: self._progress.add_task(f"{device.name}: connecting", total=total) for device in devices}

    def event(self, event: Event) -> None:
        """Something came from a device."""
        task = self._tasks[event.device]
        done = 1 if isinstance(event, Block | Evaluated) else 0
        text = {
            "connected": "pushing",
            "pushed": "starting",
            "evaluated": "accuracy",
            "counted": "counting instructions",
            "end": "fetching outputs",
            "fidelity": "comparing outputs",
        }.get(event.event)
        if isinstance(event, Block):
            text = f"round {event.round + 1} of {self._rounds}"
        elif isinstance(event, Failed | DeviceFailed | Connected):
            self._progress.console.print(
                f"{event.device}: {escape(describe(event, self._names, self._rounds) or '')}", soft_wrap=True
            )
        self._progress.update(task, advance=done)
        if text is not None:
            self._progress.update(task, description=f"{event.device}: {text}")


def describe(event: Event, names: dict[str, str], rounds: int) -> str | None:
    """Put an event in words; None for those that are not worth a line."""
    text: str | None = None
    match event:
        case Connected(facts=facts):
            text = f"connected: {facts.cpu_model or facts.arch}, {facts.cores} cores, onnxruntime {facts.onnxruntime.version or 'none'}"
        case Pushed():
            text = f"pushed {event.files} files, {event.sent_bytes / 1e6:.1f} MB sent in {event.seconds:.1f} s"
        case Evaluated():
            text = f"{names[event.case]}: outputs computed"
        case Counted():
            text = f"{names[event.case]}: {min(event.instructions) / 1e6:.2f} million instructions"
        case Round():
            text = f"round {event.round + 1} of {rounds} done after {event.elapsed:.0f} s"
        case Failed():
            text = f"{names[event.case]}: {event.kind} failed: {event.message}"
        case End(reason="max_time"):
            text = "the time is up; fetching outputs"
        case End(reason="rounds"):
            text = "all rounds done; fetching outputs"
        case DeviceFailed():
            text = f"failed: {event.step}: {event.reason}"
    return text
