"""The context that a device's numbers depend on beside the model; it decides whether two results can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

# Fields that change what a latency means; the others are shown beside it.
DECISIVE = ("arch", "cpu", "cores", "pinned", "governor", "frequency_limit_khz", "emulated")
MISSING = "not known"


class Context(BaseModel):
    """A device during a run; None means that the device did not report it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: str | None = None
    cpu: str | None = None
    cores: int | None = None
    pinned: str | None = None
    governor: str | None = None
    frequency_limit_khz: int | None = None
    emulated: str | None = None
    onnxruntime: str | None = None
    kernel: str | None = None
    libc: str | None = None
    python: str | None = None


@dataclass(frozen=True)
class Difference:
    """A field in which two contexts differ.

    Attributes:
        decisive: whether it changes what the numbers mean.
    """

    field: str
    before: str
    now: str
    decisive: bool

    def __str__(self) -> str:
        return f"{self.field.replace('_', ' ')}: {self.before} → {self.now}"


def differences(before: Context, now: Context) -> tuple[Difference, ...]:
    """Compare two contexts field by field, the decisive fields first."""
    found = [
        Difference(name, _words(getattr(before, name)), _words(getattr(now, name)), name in DECISIVE)
        for name in Context.model_fields
        if getattr(before, name) != getattr(now, name)
    ]
    return tuple(sorted(found, key=lambda each: not each.decisive))


def _words(value: object) -> str:
    return MISSING if value is None else str(value)
