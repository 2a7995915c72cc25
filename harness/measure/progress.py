"""How far an interrupted run came on a device, as its journal shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import DeviceError
from harness.measure.events import End, Evaluated, FidelityLine, Round
from harness.measure.launch import Launch
from harness.measure.route_events import Collected, Connected, Started
from harness.quantize.matrix import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.devices.facts import Facts
    from harness.measure.events import Event
    from harness.measure.plan import Case

# What a machine keeps across a restart.
SAME = ("arch", "cpu_model", "cores", "board")


@dataclass
class Progress:
    """Where to continue.

    Attributes:
        job: the last one that was asked for; None if none was.
        offset: up to where its journal is here.
        ended: why it ended, if it did.
        next_round: the first one that no job has begun.
        evaluated: by case, what the last job computed.
        compared: the cases whose outputs were fetched from it.
        collected: nothing is left to do.
        inputs: the hashes of what the outputs were computed from.
        protocol: the version that the job speaks; None if it was begun by a version that did not say so.
        facts: what the device said of itself.
    """

    job: str | None = None
    offset: int = 0
    ended: str | None = None
    next_round: int = 0
    evaluated: dict[str, Evaluated] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)
    collected: bool = False
    inputs: tuple[str, ...] = ()
    protocol: int | None = None
    facts: Facts | None = None

    @property
    def left(self) -> bool:
        """Whether anything is left to do. That is also so if the time was up before every pair was known precisely enough."""
        return not self.collected or self.ended == "max_time"

    def again(self) -> Progress:
        """The progress from which a new job continues after the time was up: it starts with the next round."""
        return Progress(next_round=self.next_round, inputs=self.inputs, facts=self.facts) if self.collected else self

    def refuse_another(self, facts: Facts, device: str) -> None:
        """Refuse to continue a run on another machine than the one that it began on.

        Raises:
            DeviceError: if it is another.
        """
        for key in SAME if self.facts is not None else ():
            was, now = getattr(self.facts, key), getattr(facts, key)
            if was != now:
                reason = (
                    f"this is not the machine on which the run was started: its {key} is {now}, but was {was}; start a new run"
                )
                raise DeviceError(device, "resume", reason)

    def differing(self, case: Case, cases: Iterable[Case]) -> set[int]:
        """The outputs whose values differed between two runs on the device: those of a case, or of fp32 with the same inputs."""
        return {
            position
            for other in cases
            if other == case or (other.variant == REFERENCE.name and other.dims == case.dims)
            if other.id in self.evaluated
            for position in self.evaluated[other.id].differing
        }

    def add(self, event: Event) -> None:
        """Update the progress with an event."""
        self.offset = event.offset or self.offset
        match event:
            case Connected():
                self.facts = event.facts
            case Started():
                self.job, self.offset, self.ended, self.inputs = event.job, 0, None, tuple(event.inputs)
                self.evaluated, self.compared, self.collected, self.protocol = {}, set(), False, event.protocol
            case Evaluated():
                self.evaluated[event.case] = event
            case FidelityLine():
                self.compared.add(event.case)
            case Launch() | Round():
                self.next_round = max(self.next_round, event.round + 1)
            case End():
                self.ended = event.reason
            case Collected():
                self.collected = self.ended != "stopped"


def progress(events: Iterable[Event]) -> dict[str, Progress]:
    """Read a journal; gives the progress of each device that is in it."""
    found: dict[str, Progress] = {}
    for event in events:
        found.setdefault(event.device, Progress()).add(event)
    return found
