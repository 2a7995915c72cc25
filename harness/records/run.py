"""run.json: one execution of a study, as it is kept."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.devices.device import Device
from harness.devices.facts import Facts
from harness.errors import Failure
from harness.measure.events import FidelityLine, Governor, Graph, SeparateProcesses
from harness.measure.launch import Conditions
from harness.measure.plan import Case
from harness.quantize.recipe import Variant
from harness.records.baseline import Baseline
from harness.records.context import Context
from harness.study.claims_and_gate import TIMES
from harness.study.study import Study

FORMAT: Literal[2] = 2


class _Record(BaseModel):
    # Aliases are the names of keys in run.json, which keep what earlier versions wrote.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Versions(_Record):
    """What made the variants, on the controller."""

    harness: str
    python: str
    onnxruntime: str
    onnx: str
    numpy: str


class DeviceRecord(_Record):
    """One device of the run.

    Attributes:
        entry: as in devices.toml.
        facts: what it said of itself; None if it never answered.
        state: ``measured``; ``failed`` at a step, for a reason, with the kind of failure; ``stopped`` by Ctrl-C; ``pending`` while the run goes on or was killed.
        ended: why its rounds ended: all done, or the time was up.
        rounds: how many rounds were completed.
        sent_bytes: what the push took over the wire.
        runtimes: hashes of what was measured side by side there, by onnxruntime's version.
        governor: what became of the wish for one.
        separate_processes: the pairs whose cases took turns in separate processes, with the reason.
        lease_lacking: why other accounts could measure at the same time; None if the lease of the machine was held.
    """

    entry: Device
    facts: Facts | None = None
    state: Literal["pending", "measured", "failed", "stopped"] = "pending"
    failure: Failure | None = None
    step: str | None = None
    reason: str | None = None
    ended: Literal["rounds", "max_time", "stopped"] | None = None
    rounds: int = 0
    files: int | None = None
    sent_bytes: int | None = None
    runtimes: dict[str, str] = {}
    governor: Governor | None = None
    separate_processes: tuple[SeparateProcesses, ...] = Field(default=(), alias="apart")
    lease_lacking: str | None = None

    @property
    def emulated(self) -> str | None:
        """What emulates it, as its owner or its facts say."""
        found = self.facts.emulated.by if self.facts and self.facts.emulated else None
        return self.entry.emulated or found

    @property
    def context(self) -> Context | None:
        """What its numbers depend on; None if it never answered."""
        facts = self.facts
        if facts is None:
            return None
        held = self.governor is not None and not self.governor.reason
        return Context(
            arch=facts.arch,
            cpu=facts.cpu_model,
            cores=facts.cores,
            pinned=",".join(map(str, self.entry.cpus)) if self.entry.cpus else None,
            governor=self.governor.governor if self.governor is not None and held else facts.governor,
            frequency_limit_khz=facts.frequencies_khz.max,
            emulated=self.emulated,
            onnxruntime=", ".join(self.runtimes) or facts.onnxruntime.version,
            kernel=facts.kernel,
            libc=facts.libc,
            python=facts.python,
        )


class BlockPairRecord(_Record):
    """A pair of blocks (or one of a case alone) without its samples, which are in samples.parquet.

    Attributes:
        medians: nanoseconds, for each case of the launch.
        disturbed: why it does not count, if it doesn't.
        used: whether it counts: it was not disturbed, or all of its rebuild were.
    """

    medians: tuple[float, ...]
    wall_ns: int
    cpu_ns: int
    switches: int
    minor_faults: int
    major_faults: int
    before: Conditions
    after: Conditions
    disturbed: tuple[str, ...] = ()
    used: bool = True


class RebuildRecord(_Record):
    """Sessions made anew in a launch; times in nanoseconds, for each case."""

    order: tuple[int, ...]
    load_ns: tuple[int, ...]
    first_ns: tuple[int, ...]
    warmup: tuple[int, ...]
    steady: tuple[bool, ...]
    pairs: tuple[BlockPairRecord, ...]

    def log_medians(self) -> list[tuple[float, ...]]:
        """The logarithms of the medians of the pairs that count; empty when a clock was too coarse to tell."""
        found = [tuple(map(math.log, pair.medians)) for pair in self.pairs if pair.used and min(pair.medians) > 0]
        return found if len(found) == sum(pair.used for pair in self.pairs) else []


class LaunchRecord(_Record):
    """One process that measured two cases side by side, or one alone.

    Attributes:
        cases: ids; of a pair the first is what the second is compared with.
        separate_processes: the pair whose cases took turns in separate processes, of which this is one.
        iterations: how many samples count, for each case.
    """

    device: str
    cases: tuple[str, ...]
    separate_processes: tuple[str, str] | None = Field(default=None, alias="apart")
    round: int
    rebuilds: tuple[RebuildRecord, ...]
    iterations: tuple[int, ...]
    peak_bytes: int | None = None

    def beside(self, index: int) -> str | None:
        """The case that one was measured beside: in the same process, or in turn in separate processes."""
        return next((name for name in self.separate_processes or self.cases if name != self.cases[index]), None)


class ThroughputRecord(_Record):
    """Several sessions at once in one process."""

    round: int
    sessions: int
    per_second: float
    peak_bytes: int | None


class CountRecord(_Record):
    """A case's instructions in one process: the smallest of its iterations, and cycles where the kernel counts them."""

    round: int
    counter: Literal["icount", "perf"]
    iterations: int
    instructions: float
    cycles: float | None
    peak_bytes: int | None


class CaseRecord(_Record):
    """The outcome of one case on one device.

    Attributes:
        state: ``measured``; ``failed`` (load, run, crash, …); ``unmeasured`` when its device failed or the time was up before it;
            ``impossible`` when its file is not for that device's platform.
        load_ns: to create the session, of each process where it was the first one; first_ns likewise: its first inference.
        peak_bytes: the resident high-water mark of a process that held this session alone; peaks: of the evaluation of each job.
        graph: what onnxruntime runs after its optimizations.
        troubles: what beside the timing could not be had, and why.
    """

    device: str
    case: str
    state: Literal["measured", "failed", "unmeasured", "impossible"]
    kind: str | None = None
    reason: str | None = None
    fidelity: FidelityLine | None = None
    load_ns: tuple[int, ...] = ()
    first_ns: tuple[int, ...] = ()
    peak_bytes: int | None = None
    peaks: tuple[int, ...] = ()
    graph: Graph | None = None
    counts: tuple[CountRecord, ...] = ()
    throughput: tuple[ThroughputRecord, ...] = ()
    troubles: tuple[str, ...] = ()


class Run(_Record):
    """One execution of a study.

    Attributes:
        state: ``running`` until it ended; then ``complete`` or ``interrupted``. A folder whose run.json says ``running`` is that of a
            run under way, or of one that was killed.
        units: the protocol's word for what a launch measures: the ids of a pair, or of a case alone; the same on every device.
        launches: what each process measured.
        warnings: what a reader must know beside the numbers.
        build: the address of the build that made it, on a server that tells one.
        baseline: of a release gate: what the candidate is compared with; each pair is then (baseline's case, candidate's case).
    """

    format: Literal[2] = FORMAT
    id: str
    state: Literal["running", "complete", "interrupted"] = "running"
    started: datetime
    finished: datetime | None = None
    study: Study
    model_sha256: str
    model_size: int
    versions: Versions
    seed: int
    variants: tuple[Variant, ...]
    cases: tuple[Case, ...]
    devices: tuple[DeviceRecord, ...]
    results: tuple[CaseRecord, ...] = ()
    units: tuple[tuple[str, ...], ...] = ()
    launches: tuple[LaunchRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    build: str | None = None
    baseline: Baseline | None = None

    @property
    def timed(self) -> bool:
        """Whether times are asked for; a gate on sizes or accuracy alone asks for none."""
        gate = self.study.gate
        return self.baseline is None or gate is None or any(metric in TIMES for metric in gate.metrics)

    def device(self, name: str) -> DeviceRecord:
        """Find a device by name."""
        return next(device for device in self.devices if device.entry.name == name)

    def variant(self, name: str) -> Variant:
        """Find a variant by name."""
        return next(variant for variant in self.variants if variant.name == name)
