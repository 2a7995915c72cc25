"""The facts of a device, and the lines of a job's journal. Types only, as in protocol.py; PROTOCOL.md explains them."""

from __future__ import annotations

from typing import Literal, TypedDict, Union

from protocol_runner import CountResult, EvaluateResult, LaunchResult, ThroughputResult

# --- The facts: what a device is. ---


class Frequencies(TypedDict):
    """Of core 0, in kHz."""

    min: int | None
    max: int | None
    current: int | None


class Emulation(TypedDict):
    """Who emulates the processor, and what shows it."""

    by: str
    evidence: str


class CoreKind(TypedDict):
    """Cores that are alike."""

    capacity: int | None
    max_khz: int | None
    cpus: list[int]


class Runtime(TypedDict, total=False):
    """The onnxruntime that was found, or why none could be imported."""

    version: str
    providers: list[str]
    error: str


class _AgentFacts(TypedDict, total=False):
    runtime: str | None
    runtimes: list[str]
    holder: str | None


class Facts(_AgentFacts):
    """What the prober reports; the program that starts it adds the runtime and who holds the device."""

    event: Literal["facts"]
    arch: str
    cpu_model: str | None
    features: list[str]
    cores: int
    cpus: list[int]
    governor: str | None
    frequencies_khz: Frequencies
    temperature_celsius: float | None
    memory_bytes: int | None
    libc: str | None
    kernel: str
    board: str | None
    python: str
    executable: str
    emulated: Emulation | None
    core_kinds: list[CoreKind]
    numpy: str | None
    onnxruntime: Runtime
    uncountable: str | None


# --- The lines of the journal. ---

EndReason = Literal["rounds", "max_time", "stopped"]


class Waiting(TypedDict):
    """Another job holds the device: this one waits, or (busy) gave up."""

    event: Literal["waiting", "busy"]
    holder: str


class LeaseLacking(TypedDict):
    """The job holds the lease of its store only."""

    event: Literal["lease"]
    reason: str


class GovernorOutcome(TypedDict, total=False):
    """What was set before, or why the governor could not be set."""

    was: list[str]
    reason: str


class Governor(GovernorOutcome):
    """The governor was set, or could not be set."""

    event: Literal["governor"]
    governor: str


class Begin(TypedDict):
    """Measuring begins."""

    event: Literal["begin"]
    protocol: int
    time: float
    facts: Facts


class Evaluated(EvaluateResult):
    """The result with its case."""

    case: str


class SeparateProcesses(TypedDict):
    """From here on, the cases of a pair run in processes of their own, which alternate."""

    event: Literal["apart"]
    cases: list[str]
    reason: str


class Launch(LaunchResult):
    """The result with its round, and with its pair if that is measured in separate processes."""

    round: int
    apart: list[str] | None


class Counted(CountResult):
    """The result with its case and round."""

    case: str
    round: int


class Throughput(ThroughputResult):
    """The result with its case and round."""

    case: str
    round: int


class Trouble(TypedDict):
    """Instructions or throughput of a case can't be measured."""

    event: Literal["trouble"]
    case: str
    what: Literal["count", "throughput"]
    kind: str
    message: str


class Failed(TypedDict):
    """A case can't be measured; in the evaluation there is no round."""

    event: Literal["failed"]
    case: str
    round: int | None
    kind: str
    message: str


class Round(TypedDict):
    """A round is over."""

    event: Literal["round"]
    round: int
    elapsed: float


class End(TypedDict):
    """The job is done."""

    event: Literal["end"]
    reason: EndReason


Line = Union[
    Waiting, LeaseLacking, Governor, Begin, Evaluated, SeparateProcesses, Launch, Counted, Throughput, Trouble, Failed, Round, End,
]  # fmt: skip
