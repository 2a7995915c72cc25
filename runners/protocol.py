"""What travels between the controller and a device: the request for a job, and the messages of the agent. PROTOCOL.md explains it.

Types only: mypy checks the controller and the programs on the device against them, and no program imports this module when it runs.
protocol_runner.py and protocol_journal.py have what the programs of a job say. Keys that may be absent are in a base class with ``total=False``, because Python 3.9 has no ``NotRequired``.
"""

from __future__ import annotations

from typing import Literal, TypedDict, Union

# A sha256 in hex, the name of a file in the store.
Hash = str
Counter = Literal["icount", "perf"]

# --- The request: what a job is asked to measure. ---


class Case(TypedDict):
    """A model with its inputs and the settings of its session."""

    id: str
    model: Hash
    data: Hash | None
    inputs: Hash
    names: list[str]
    threads: int
    provider: str
    optimization: Literal["all", "extended", "basic", "disabled"]
    runtime: Hash | None


class Who(TypedDict):
    """The controller that asks, for others who find the device busy."""

    user: str
    host: str
    pid: int
    url: str | None
    harness: str
    controller: str


class BlockOptions(TypedDict):
    """How a launch measures."""

    turns: bool
    rebuilds: int
    pairs: int
    block: float
    warmup: float
    launch: float


class _PlanOptions(TypedDict, total=False):
    limits: list[tuple[list[str], float]]
    first_round: int
    cpus: list[int]
    governor: str
    memory: int


class Plan(BlockOptions, _PlanOptions):
    """What is measured, and how: the part of the request that follows from the study and the device."""

    protocol: int
    cases: list[Case]
    units: list[list[str]]
    seed: int
    rounds: int
    least_rounds: int
    precision: float
    t: list[float]
    throughput: list[int]
    throughput_rounds: int
    throughput_seconds: float
    samples: int | None
    counter: Counter | None
    count_rounds: int
    count_spread: float
    count_iterations: int
    max_time: float
    timeout: float
    longest: float


class Order(Plan):
    """A plan, who asks for it, and how long the job may wait for the lease."""

    who: Who
    wait: float


class Request(Order):
    """The whole request, with the program that reports the facts."""

    prober: Hash


# --- The agent: what its commands read on standard input, and what they answer. ---


class Offer(TypedDict):
    """First message of a delivery: the files, with their sizes in bytes, and the store's quota."""

    files: list[tuple[Hash, int]]
    quota: int | None


class Layouts(TypedDict):
    """Third message of a delivery: the pieces of each missing file, with their sizes in bytes."""

    layouts: dict[Hash, list[tuple[Hash, int]]]
    fresh: bool


class Wheel(TypedDict):
    """A wheel that was pushed."""

    sha256: Hash
    name: str


class Unpack(TypedDict):
    """The wheels that make up a runtime."""

    wheels: list[Wheel]


class Alive(TypedDict):
    """A long step is still running."""

    event: Literal["alive"]


class Error(TypedDict):
    """The command failed."""

    event: Literal["error"]
    kind: str
    message: str


class Missing(TypedDict):
    """Files that are not in the store."""

    event: Literal["missing"]
    sha256: list[Hash]


class Needed(TypedDict):
    """Pieces to send, in this order: the file, the number of the piece, and the bytes of it that are there already."""

    event: Literal["needed"]
    pieces: list[tuple[Hash, int, int]]


class Stored(TypedDict):
    """A file is complete, or it was built but has another hash."""

    event: Literal["stored", "damaged"]
    sha256: Hash


class Machine(TypedDict):
    """What decides which wheels fit."""

    event: Literal["machine"]
    arch: str
    bits: int
    libc: str
    implementation: str
    python: list[int]
    abi: str


class Unpacked(TypedDict):
    """A runtime is there."""

    event: Literal["unpacked"]
    runtime: Hash


class Adopted(TypedDict):
    """This Python can import the runtime, and uses it."""

    event: Literal["adopted"]
    runtime: Hash
    onnxruntime: str
    numpy: str


class Unusable(TypedDict):
    """This Python can't import the runtime."""

    event: Literal["unusable"]
    message: str


class Started(TypedDict):
    """The job runs, or ran."""

    event: Literal["started"]
    pid: int


class Has(TypedDict):
    """Whether a job was started, and by which version."""

    event: Literal["has"]
    found: bool
    protocol: int | None
    harness: str | None


class HeldBy(TypedDict):
    """Who holds the lease: a :class:`Holder` as JSON text."""

    event: Literal["holder"]
    holder: str | None


class Data(TypedDict):
    """A part of a file."""

    event: Literal["data"]
    base64: str


class FileEnded(TypedDict):
    """A file is complete."""

    event: Literal["ended"]
    size: int
    sha256: Hash


class JobEnded(TypedDict):
    """The job has ended, and its journal is complete."""

    event: Literal["ended"]


class Died(TypedDict):
    """The job ended without completing its journal."""

    event: Literal["died"]
    log: str


class Stopped(TypedDict):
    """The job has stopped."""

    event: Literal["stopped"]
    was_running: bool


class Held(TypedDict):
    """The job that holds the device could not be ended."""

    event: Literal["held"]
    holder: str | None
    mine: bool


class Holder(TypedDict, total=False):
    """The job that holds the lease: what it says of itself, then what the device's kernel says of it."""

    user: str
    host: str
    pid: int
    url: str
    harness: str
    controller: str
    job: str
    since: float
    protocol: int
    uid: int
    account: str
    process: int | None
    mine: bool
    answers: bool


Reply = Union[
    Alive, Error, Missing, Needed, Stored, Machine, Unpacked, Adopted, Unusable, Started, Has, HeldBy, Data, FileEnded, JobEnded,
    Died, Stopped, Held,
]  # fmt: skip
