"""What a job asks of the runner, and what the runner answers. Types only, as in protocol.py; PROTOCOL.md explains them."""

from __future__ import annotations

from typing import Literal, TypedDict, Union

from protocol import BlockOptions, Case, Counter, Hash

# --- The tasks of the runner; each is carried out in a process of its own. Model and inputs of a case are paths there. ---


class _Task(TypedDict):
    cases: list[Case]
    cpus: list[int] | None


class EvaluateTask(_Task):
    """Compute the outputs of the first samples, or of all, and write them to a file."""

    task: Literal["evaluate"]
    outputs: str
    samples: int | None


class LaunchTask(_Task, BlockOptions):
    """Measure two cases side by side, or one alone."""

    task: Literal["duet"]
    seed: int


class CountTask(_Task):
    """Count the instructions of a case."""

    task: Literal["count"]
    counter: Counter
    count_iterations: int


class ThroughputTask(_Task):
    """Run several sessions of a case at once."""

    task: Literal["throughput"]
    sessions: int
    warmup: float
    throughput_seconds: float


Task = Union[EvaluateTask, LaunchTask, CountTask, ThroughputTask]


# --- The results of the runner. ---


class Outputs(TypedDict):
    """The file of outputs: its name, its size in bytes and its hash."""

    name: str
    size: int
    sha256: Hash


class Operator(TypedDict):
    """The nodes of one operator in the optimized graph, and their time in one run."""

    op: str
    provider: str
    count: int
    microseconds: float


class Graph(TypedDict):
    """The graph that onnxruntime runs after its optimizations."""

    fingerprint: str
    nodes: int
    ops: list[Operator]
    left: list[str]


class EvaluateResult(TypedDict):
    """What a case computed."""

    event: Literal["evaluated"]
    outputs: Outputs
    seconds: float
    load_ns: int
    first_ns: int
    peak_bytes: int | None
    graph: Graph | None
    differing: list[int]


class Samples(TypedDict):
    """The times of a block, packed."""

    base: int
    unit: int
    count: int
    data: str


class Conditions(TypedDict, total=False):
    """One reading of what disturbs a measurement; what the device does not report is absent."""

    khz: int
    celsius: float
    throttle: int
    firmware: int
    steal_ns: int
    interrupts: int
    load: float


class BlockPair(TypedDict):
    """Blocks measured side by side, one for each case."""

    order: list[int]
    medians: list[float]
    wall_ns: list[int]
    cpu_ns: list[int]
    switches: list[int]
    minor_faults: list[int]
    major_faults: list[int]
    before: Conditions
    after: Conditions
    disturbed: list[str]
    samples: list[Samples]


class Rebuild(TypedDict):
    """Sessions created once, warmed up and measured in pairs of blocks; each list but the last has a value for each case."""

    order: list[int]
    load_ns: list[int]
    first_ns: list[int]
    warmup: list[int]
    steady: list[bool]
    pairs: list[BlockPair]


class LaunchResult(TypedDict):
    """What a launch measured."""

    event: Literal["duet"]
    cases: list[str]
    peak_bytes: int | None
    rebuilds: list[Rebuild]


class _Cycles(TypedDict, total=False):
    cycles: list[int]


class CountResult(_Cycles):
    """One number for each iteration."""

    event: Literal["counted"]
    counter: Counter
    instructions: list[int]
    load_ns: int
    peak_bytes: int | None


class ThroughputResult(TypedDict):
    """How often several sessions ran in a time."""

    event: Literal["throughput"]
    sessions: int
    inferences: int
    wall_ns: int
    peak_bytes: int | None


class _FailedCase(TypedDict, total=False):
    case: str | None


class Failure(_FailedCase):
    """The task failed; the case is None or absent where two cases were in the process and none of them can be blamed."""

    event: Literal["failed"]
    kind: Literal["load", "run", "memory", "crash", "timeout"]
    message: str


Result = Union[EvaluateResult, LaunchResult, CountResult, ThroughputResult, Failure]
