"""run.json: one execution of a study, as it is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.devices.facts import Facts
from harness.devices.registry import Device
from harness.measure.journal import FidelityLine
from harness.measure.plan import Case
from harness.quantize.recipe import Variant
from harness.study import Study

FORMAT: Literal[1] = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
        state: ``measured``; ``failed`` at a step, for a reason; ``stopped`` by Ctrl-C; ``pending`` while the run goes on or was killed.
        ended: why its rounds ended: all done, or the time was up.
        rounds: how many rounds were completed.
        sent_bytes: what the push took over the wire.
    """

    entry: Device
    facts: Facts | None = None
    state: Literal["pending", "measured", "failed", "stopped"] = "pending"
    step: str | None = None
    reason: str | None = None
    ended: Literal["rounds", "max_time", "stopped"] | None = None
    rounds: int = 0
    files: int | None = None
    sent_bytes: int | None = None

    @property
    def emulated(self) -> str | None:
        """What emulates it, as its owner or its facts say."""
        found = self.facts.emulated.by if self.facts and self.facts.emulated else None
        return self.entry.emulated or found


class BlockRecord(_Record):
    """A block without its samples, which are in samples.parquet; times in nanoseconds."""

    round: int
    iterations: int
    load_ns: int
    first_ns: int
    warmup: int
    cpu_ns: int
    wall_ns: int
    involuntary_switches: int
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
    """What became of one case on one device.

    Attributes:
        state: ``measured``; ``failed`` (load, run, crash, …); ``unmeasured`` when its device failed or the time was up before it.
    """

    device: str
    case: str
    state: Literal["measured", "failed", "unmeasured"]
    kind: str | None = None
    reason: str | None = None
    fidelity: FidelityLine | None = None
    blocks: tuple[BlockRecord, ...] = ()
    counts: tuple[CountRecord, ...] = ()


class Run(_Record):
    """One execution of a study.

    Attributes:
        state: ``running`` until it ended; then ``complete`` or ``interrupted``. A folder whose run.json says ``running`` is that of a
            run under way, or of one that was killed.
        warnings: what a reader must know beside the numbers.
    """

    format: Literal[1] = FORMAT
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
    warnings: tuple[str, ...] = ()

    def variant(self, name: str) -> Variant:
        """Find a variant by name."""
        return next(variant for variant in self.variants if variant.name == name)
