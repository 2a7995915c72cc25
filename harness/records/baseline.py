"""A saved baseline: its model files by hash, and what was measured when it was saved.

Only the files count for the gate, which measures them again; the old figures tell how far the baseline itself has drifted since.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from harness.quantize.recipe import Variant
from harness.records.context import Context

FORMAT: Literal[1] = 1


def _a_number(value: object) -> object:
    """Refuse ``true``, which equals 1."""
    if isinstance(value, bool):
        message = "a format is a number"
        raise ValueError(message)  # noqa: TRY004 - pydantic's own protocol
    return value


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Level(_Record):
    """A case's median then, in milliseconds, with its 95 % interval."""

    median: float
    low: float | None
    high: float | None


class BaselineDevice(_Record):
    """A device of the baseline's run: its context, and the levels of its cases by name.

    Attributes:
        noise: how far the replicates of a pair lay apart, as a share; None in baselines of earlier versions.
    """

    context: Context
    levels: dict[str, Level]
    noise: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Baseline(_Record):
    """A baseline.

    Attributes:
        name: what the user calls it.
        kind: a finished ``run``, one that was ``saved`` to a file, a bare ``model``, or another ``runtime`` for the same models.
        run: the id of the run that it was taken from.
        build: the address of the build that made that run.
        taken: when it was measured.
        model_sha256: of the model that the variants were made of.
        variants: those that were made; without paths in a file.
        devices: by name.
    """

    format: Annotated[Literal[1], BeforeValidator(_a_number)] = FORMAT
    name: str
    kind: Literal["run", "saved", "model", "runtime"]
    run: str | None = None
    build: str | None = None
    taken: datetime | None = None
    model_sha256: str | None = None
    variants: tuple[Variant, ...] = ()
    devices: dict[str, BaselineDevice] = {}

    @property
    def described(self) -> str:
        """One phrase for a sentence."""
        when = f" of {self.taken:%Y-%m-%d %H:%M} UTC" if self.taken else ""
        if self.kind == "saved":
            return f"baseline '{self.name}' (run {self.run}{when}{f', {self.build}' if self.build else ''})"
        if self.kind == "run":
            return f"run {self.run}{when}{f' ({self.build})' if self.build else ''}"
        return self.name
