"""What happens in a run, as lines of its journal: typed and bounded, for most come from a device.

Each has ``device`` and ``event``. Those with an ``offset`` are the device's (runners/PROTOCOL.md), the others the controller's own.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from harness.devices.facts import Facts
from harness.measure.event import Count, Id, Line, Message, Nanoseconds, Turn
from harness.measure.launch import Launch
from harness.measure.route_events import (
    Busy,
    Collected,
    Connected,
    DeviceFailed,
    LeaseLacking,
    Lost,
    Provisioned,
    Pushed,
    Runtimes,
    Started,
    Waiting,
)
from harness.quantize.verify.fidelity import Fidelity

FIGURES = tuple(field.name for field in fields(Fidelity))
# What earlier versions called a figure otherwise.
FLAT = {"accuracy": "top1_accuracy"}


class Begin(Line):
    """The runner began; facts once more, from right before measuring."""

    event: Literal["begin"] = "begin"
    time: float
    facts: Facts


class Outputs(BaseModel):
    """A file of outputs on the device."""

    model_config = ConfigDict(frozen=True)

    name: Id
    size: Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Operator(BaseModel):
    """An operator of the optimized graph, and what all its nodes together take per run as the profiler sees it."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    op: Id
    provider: Id
    count: Count
    microseconds: float


class Graph(BaseModel):
    """What onnxruntime runs after its optimizations.

    Attributes:
        fingerprint: of all nodes with their operators, types and shapes: equal for equal work.
        left: the names of the first QuantizeLinear, DequantizeLinear and Cast nodes.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: Id
    nodes: Count
    ops: Annotated[list[Operator], Field(max_length=1000)]
    left: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)] = []


class Evaluated(Line):
    """A case computed the evaluation inputs, in a process of its own.

    Attributes:
        differing: positions, among the model's outputs, of those that a second run on the first sample gave other values for.
    """

    event: Literal["evaluated"] = "evaluated"
    case: Id
    outputs: Outputs
    load_ns: Nanoseconds
    first_ns: Nanoseconds
    peak_bytes: Count | None = None
    seconds: float
    graph: Graph | None = None
    differing: Annotated[list[Count], Field(max_length=10_000)] = []


class SeparateProcesses(Line):
    """A pair is measured in separate processes, which take turns, for a reason."""

    event: Literal["apart"] = "apart"
    cases: tuple[Id, Id]
    reason: Message


class Governor(Line):
    """What became of the wish for a frequency governor; reason is why it could not be set."""

    event: Literal["governor"] = "governor"
    governor: Id
    was: Annotated[list[Id], Field(max_length=100)] = []
    reason: Message | None = None


class Throughput(Line):
    """Several sessions of a case at once."""

    event: Literal["throughput"] = "throughput"
    case: Id
    round: Turn
    sessions: Annotated[int, Field(ge=1)]
    inferences: Count
    wall_ns: Annotated[int, Field(ge=1, lt=2**63)]
    peak_bytes: Count | None = None


class Counted(Line):
    """A case's instructions, counted in one fresh process; one number for each iteration."""

    event: Literal["counted"] = "counted"
    case: Id
    round: Turn
    counter: Literal["icount", "perf"]
    instructions: Annotated[list[Count], Field(min_length=1, max_length=10_000)]
    cycles: Annotated[list[Count], Field(max_length=10_000)] | None = None
    load_ns: Nanoseconds
    peak_bytes: Count | None = None


class Failed(Line):
    """A case could not be loaded or run, or its process died; round is None in the evaluation."""

    event: Literal["failed"] = "failed"
    case: Id
    round: Turn | None = None
    kind: Id
    message: Message


class Trouble(Line):
    """Something beside the timing of a case could not be had: counting, or several sessions at once."""

    event: Literal["trouble"] = "trouble"
    case: Id
    what: Id
    kind: Id
    message: Message


class Round(Line):
    """A round is over."""

    event: Literal["round"] = "round"
    round: Turn
    elapsed: float


class End(Line):
    """The runner ended."""

    event: Literal["end"] = "end"
    reason: Literal["rounds", "max_time", "stopped"]


class FidelityLine(Line):
    """A case's outputs compared with the reference.

    Attributes:
        fidelity: the figures, with None in place of infinity and NaN; nothing is known of what could not be compared.
        reference: what the reference is called.
        notes: what a reader must know of the figures, in sentences.
        uncompared: a sentence that names the outputs which are no tensors of numbers, and so are not compared.
        unlike: outputs with dead slices whose other slices do not resemble the reference's either.
        samples: how many samples the device computed.
        metrics: the study's own figures.
        reason: why figures are missing.
    """

    event: Literal["fidelity"] = "fidelity"
    case: Id
    fidelity: Fidelity = Field(default_factory=Fidelity)
    reference: Id = "fp32"
    notes: tuple[Message, ...] = ()
    uncompared: Message | None = None
    unlike: tuple[str, ...] = ()
    samples: Count | None = None
    metrics: dict[Id, float] = {}
    reason: Message | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_one_object(cls, said: Any) -> Any:  # noqa: ANN401 - what is validated
        """Read lines of earlier versions, which kept each figure in a field of its own."""
        if not isinstance(said, dict) or "fidelity" in said:
            return said
        figures = {FLAT.get(name, name): value for name, value in said.items() if name in {*FIGURES, *FLAT}}
        return {**{name: value for name, value in said.items() if name not in {*FIGURES, *FLAT}}, "fidelity": figures}

    def without_distances(self, reason: str) -> FidelityLine:
        """Leave out everything that was compared with the reference; what the labels tell stays."""
        kept = Fidelity(top1_accuracy=self.fidelity.top1_accuracy)
        return self.model_copy(update={"fidelity": kept, "notes": (), "uncompared": None, "reason": reason[:4000]})


Event = (
    Connected | Pushed | Provisioned | Started | Lost | Waiting | Collected | Busy | LeaseLacking | Runtimes | Begin | Evaluated | Launch | SeparateProcesses | Governor | Throughput | Trouble | Counted | Failed | Round | End | FidelityLine | DeviceFailed
)  # fmt: skip
# What a job may write; the others are the controller's to say.
SAID_THERE = {
    kind.model_fields["event"].default
    for kind in (
        Waiting,
        Busy,
        LeaseLacking,
        Governor,
        Begin,
        Evaluated,
        SeparateProcesses,
        Launch,
        Counted,
        Throughput,
        Trouble,
        Failed,
        Round,
        End,
    )
}
ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
