"""A recipe says how a variant is made; a variant is what it gave."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.study import CalibrationMethod, Format, IntegerType, Method

SHORT = {"QInt8": "S8", "QUInt8": "U8"}


class Recipe(BaseModel):
    """How a variant is made; ``given`` is the model as it is, quantized or not.

    Fields that mean nothing to a method are None or empty: ``fp32`` has only a name and a method, ``dynamic`` no format, no
    activation type (onnxruntime fixes it to QUInt8) and no calibration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    method: Method
    format: Format | None = None
    activation: IntegerType | None = None
    weight: IntegerType | None = None
    per_channel: bool = False
    reduce_range: bool = False
    calibration: CalibrationMethod | None = None
    calibration_data: str | None = None
    op_types: tuple[str, ...] = ()
    exclude_nodes: tuple[str, ...] = ()


class Variant(BaseModel):
    """What a recipe gave: a model file, or the reason why there is none.

    Attributes:
        recipe: how it was made.
        state: ``made``; ``impossible`` by a rule, never tried; ``failed`` when a tool refused.
        path: the file, while it is on this machine.
        sha256: the file's hash, in hex; a variant's identity.
        size: bytes.
        reason: why there is no file; for ``impossible`` the rule and its source.
        notes: what a reader of the table should know, such as the rung of the preparation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    state: Literal["made", "impossible", "failed"]
    path: Path | None = None
    sha256: str | None = None
    size: int | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name
