"""A launch: one process of the runner, and everything that it measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.measure.event import Count, Id, Line, Turn
from harness.measure.packed import Samples


class Conditions(BaseModel):
    """One reading of what disturbs a measurement; None is what the device does not report."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    khz: Count | None = None
    celsius: float | None = None
    throttle: Count | None = None
    firmware: Count | None = None
    steal_ns: Count | None = None
    interrupts: Count | None = None
    load: float | None = None


Few = Annotated[list[Count], Field(min_length=1, max_length=2)]


class BlockPair(BaseModel):
    """Blocks side by side, one for each case of a launch that has two, or one block of a case alone.

    Attributes:
        order: in which they ran.
        medians: nanoseconds, for each case.
        wall_ns: for each block in its order, as are cpu_ns, switches (involuntary) and page faults; one for both when called in turn.
        disturbed: why it does not count: cpu, faults, frequency, throttled, steal; empty for most.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    order: Few
    medians: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1, max_length=2)]
    wall_ns: Few
    cpu_ns: Few
    switches: Few
    minor_faults: Few
    major_faults: Few
    before: Conditions
    after: Conditions
    disturbed: Annotated[list[Id], Field(max_length=10)] = []
    samples: Annotated[list[Samples], Field(min_length=1, max_length=2)]


class Rebuild(BaseModel):
    """Sessions created once, warmed up and measured in pairs of blocks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    order: Few
    load_ns: Few
    first_ns: Few
    warmup: Few
    steady: Annotated[list[bool], Field(min_length=1, max_length=2)]
    pairs: Annotated[list[BlockPair], Field(min_length=1, max_length=1000)]


class Launch(Line):
    """One process of the runner, which measured two cases side by side or one alone. The protocol calls it a duet.

    Attributes:
        separate_processes: the pair whose cases take turns in separate processes, of which this is one; None for a case alone or a pair
            that shares the process.
    """

    event: Literal["duet"] = "duet"
    cases: Annotated[tuple[Id, ...], Field(min_length=1, max_length=2)]
    round: Turn
    separate_processes: tuple[Id, Id] | None = Field(default=None, alias="apart")
    rebuilds: Annotated[list[Rebuild], Field(min_length=1, max_length=1000)]
    peak_bytes: Count | None = None

    @model_validator(mode="after")
    def _is_even(self) -> Launch:
        pairs = [pair for rebuild in self.rebuilds for pair in rebuild.pairs]
        lengths = {len(each) for pair in pairs for each in (pair.order, pair.medians, pair.samples)}
        for rebuild in self.rebuilds:
            lengths |= {len(rebuild.order), len(rebuild.load_ns), len(rebuild.first_ns), len(rebuild.warmup), len(rebuild.steady)}
            lengths |= {len(self.cases)} if set(rebuild.order) == set(range(len(self.cases))) else {0}
        if lengths != {len(self.cases)}:
            message = "not as many values as cases"
            raise ValueError(message)
        return self
