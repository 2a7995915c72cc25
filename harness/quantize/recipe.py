"""A recipe says how a variant is made; a variant is what it gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from harness.study.variants import Algorithm, Bits, CalibrationMethod, FileFormat, Format, IntegerType, Method

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORT = {"QInt8": "S8", "QUInt8": "U8", "QInt16": "S16", "QUInt16": "U16", "QInt4": "S4", "QUInt4": "U4"}


class Recipe(BaseModel):
    """How a variant is made; ``given`` is the model as it is, quantized or not.

    Fields that mean nothing to a method are None or empty: ``fp32`` has only a name and a method, ``dynamic`` no format, no
    activation type (onnxruntime fixes it to QUInt8) and no calibration.

    Attributes:
        extra_options: onnxruntime's, as JSON with sorted keys, so that recipes can be compared; likewise calibration_options.
        accuracy_level: of ``nbits``; 0 leaves it to onnxruntime.
        file_format: ``onnx``, or onnxruntime's own for a platform.
        skip_steps: keys of the preparation steps that are left out, sorted.
        model: of ``given``: the file that is taken as it is; None is the study's own.
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
    nodes: tuple[str, ...] = ()
    exclude_nodes: tuple[str, ...] = ()
    exclude_op_types: tuple[str, ...] = ()
    keep_io_types: bool = True
    extra_options: str | None = None
    calibration_options: str | None = None
    bits: Bits | None = None
    block_size: int | None = None
    accuracy_level: int | None = None
    symmetric: bool | None = None
    algorithm: Algorithm | None = None
    file_format: FileFormat = "onnx"
    skip_steps: tuple[str, ...] = ()
    model: str | None = None

    @property
    def is_calibrated(self) -> bool:
        """Whether it needs calibration data."""
        return self.method == "static" or self.algorithm == "GPTQ"

    @property
    def file_name(self) -> str:
        """What a variant's file is called: onnxruntime knows its own format by the suffix."""
        return f"{self.name}.onnx" if self.file_format == "onnx" else f"{self.name}.ort"

    def options(self, of: Literal["extra", "calibration"] = "extra") -> dict[str, Any]:
        """Return a copy of the options; empty if there are none."""
        text = self.extra_options if of == "extra" else self.calibration_options
        options: dict[str, Any] = json.loads(text) if text else {}
        return options


def spelled(options: Mapping[str, Any]) -> str | None:
    """Spell options as a recipe holds them; none are None."""
    return json.dumps(options, sort_keys=True) if options else None


class Preparation(BaseModel):
    """How far a model's preparation for quantization went.

    Attributes:
        rung: of the ladder in ``prepare.py``: ``default`` is all of it, ``raw`` none.
        failures: for each rung that was tried before, its name and why it failed.
        unverified: why the outputs of the prepared model, or some of them, could not be held against the model's own; None if
            they were, and are the same but for rounding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rung: str
    failures: tuple[str, ...] = ()
    unverified: str | None = None


class Variant(BaseModel):
    """What a recipe gave: a model file, or the reason why there is none.

    Attributes:
        recipe: how it was made.
        state: ``made``; ``impossible`` by a rule, never tried; ``failed`` when a tool refused.
        path: the file, while it is on this machine.
        sha256: the file's hash, in hex; a variant's identity. A large model's file names that of its tensors by its hash: so
            it covers both.
        size: bytes, of both.
        data: sha256 of the file beside it that holds the tensors of a large model, and that file's name; None if there is none.
        preparation: how far that of the model went; None for recipes that take the model as it is.
        reason: why there is no file; for ``impossible`` the rule and its source.
        notes: what a reader of the table should know, such as the rung of the preparation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    state: Literal["made", "impossible", "failed"]
    path: Path | None = None
    sha256: str | None = None
    size: int | None = None
    data: str | None = None
    preparation: Preparation | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    def files(self) -> dict[str, Path]:
        """The variant's files on this machine, by sha256."""
        found = {} if self.sha256 is None or self.path is None else {self.sha256: self.path}
        if self.path is not None and self.data is not None:
            found[self.data] = self.path.with_name(self.data)
        return found
