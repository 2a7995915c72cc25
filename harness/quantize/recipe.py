"""A recipe says how a variant is made; a variant is what it gave."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, SerializeAsAny, create_model, model_validator

import harness.study.variants  # noqa: F401 - registers the methods
from harness.study.keys import Algorithm, Bits, CalibrationMethod, FileFormat, Format, IntegerType
from harness.study.specs import MethodName, VariantSpec, methods, spec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Recipe(BaseModel):
    """How a variant is made: the values of its method's keys (harness/study/variants.py), and usual ones for all other keys.

    A method with keys that are not among these has a class of its own, which validation gives (:func:`recipe_class`).

    Attributes:
        extra_options: onnxruntime's, as JSON with sorted keys, so that recipes can be compared; likewise calibration_options.
        accuracy_level: of ``nbits``; 0 leaves it to onnxruntime.
        file_format: ``onnx``, or onnxruntime's own for a platform.
        skip_steps: keys of the preparation steps that are left out, sorted.
        model: of ``given``: the file that is taken as it is; None is the study's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    method: MethodName
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

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_method(cls, value: Any, handler: ModelWrapValidatorHandler[Recipe]) -> Recipe:  # noqa: ANN401 - any input
        """Validate with the class of the method that is named."""
        method = value.get("method") if cls is Recipe and isinstance(value, dict) else None
        if not isinstance(method, str) or method not in methods() or (own := recipe_class(method)) is Recipe:
            return handler(value)
        return own.model_validate(value)

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], Recipe], tuple[dict[str, Any]]]:
        """Pickle the values: the class of a method with further keys is made where it is needed."""
        return Recipe.model_validate, (self.model_dump(),)

    @property
    def spec(self) -> type[VariantSpec]:
        """What is known of its method: its keys, and what kind of method it is."""
        return spec_of(self.method)

    @property
    def is_copied(self) -> bool:
        """Whether its file is the user's own, as it is."""
        return self.spec.is_copied

    @property
    def is_prepared(self) -> bool:
        """Whether it is made of the prepared model."""
        return self.spec.is_prepared

    @property
    def has_ranges(self) -> bool:
        """Whether it needs the calibrated ranges of activations."""
        return self.spec.has_ranges

    @property
    def is_quantized(self) -> bool:
        """Whether numbers become integers."""
        return self.spec.is_quantized

    @property
    def is_reduced(self) -> bool:
        """Whether numbers become integers or half precision."""
        return self.spec.is_reduced

    @property
    def is_calibrated(self) -> bool:
        """Whether it needs calibration data."""
        return self.has_ranges or self.algorithm == "GPTQ"

    @property
    def file_name(self) -> str:
        """What a variant's file is called: onnxruntime knows its own format by the suffix."""
        return f"{self.name}.onnx" if self.file_format == "onnx" else f"{self.name}.ort"

    def options(self, of: Literal["extra", "calibration"] = "extra") -> dict[str, Any]:
        """Return a copy of the options; empty if there are none."""
        text = self.extra_options if of == "extra" else self.calibration_options
        options: dict[str, Any] = json.loads(text) if text else {}
        return options


@cache
def recipe_class(method: str) -> type[Recipe]:
    """The class of a method's recipes: Recipe, or one with the further keys that the method has."""
    fields = spec_of(method).model_fields
    own: dict[str, Any] = {key: (field.annotation, field) for key, field in fields.items() if key not in Recipe.model_fields}
    return create_model(f"{method.capitalize()}Recipe", __base__=Recipe, **own) if own else Recipe


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

    recipe: SerializeAsAny[Recipe]
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
