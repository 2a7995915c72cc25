"""Which variants a study asks for: ``[variants]``, lists that are crossed, and ``[[variant]]``, one spelled out in a class for each method."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import model_validator

from harness.study.keys import (
    SHORT,
    AccuracyLevel,
    Algorithm,
    Bits,
    BlockSize,
    CalibrationMethod,
    CalibrationOptions,
    ExtraOptions,
    FileFormat,
    Format,
    IntegerType,
    StepKey,
)
from harness.study.specs import Crossed, MethodName, VariantSpec, register
from harness.study.toml_file import Section


@register
class Float32Spec(VariantSpec):
    """The user's model as it is."""

    is_copied: ClassVar[bool] = True
    is_prepared: ClassVar[bool] = False
    method: Literal["fp32"] = "fp32"


@register
class PreparedSpec(VariantSpec):
    """The model that quantized variants are made of."""

    method: Literal["prepared"] = "prepared"
    file_format: Annotated[FileFormat, Crossed("file_formats")] = "onnx"


@register
class Float16Spec(VariantSpec):
    """Half precision.

    Attributes:
        exclude_nodes: names or globs of the nodes to leave in float32.
        exclude_op_types: operators to leave in float32, beside the converter's own list.
        keep_io_types: whether inputs and outputs stay float32.
        skip_steps: keys of preparation steps that are left out.
    """

    # What stays in float32 is a matter of this method alone.
    incomparable: ClassVar[frozenset[str]] = frozenset({"exclude_nodes", "exclude_op_types", "keep_io_types"})
    is_prepared: ClassVar[bool] = False
    is_reduced: ClassVar[bool] = True
    method: Literal["fp16"] = "fp16"
    exclude_nodes: list[str] = []
    exclude_op_types: list[str] = []
    keep_io_types: bool = True
    file_format: Annotated[FileFormat, Crossed("file_formats")] = "onnx"
    skip_steps: list[StepKey] = []


class IntegerSpec(VariantSpec):
    """What dynamic and static quantization have in common.

    Attributes:
        op_types: the only operators to quantize; empty means all.
        nodes: names or globs of the only nodes to quantize; empty means all.
        exclude_nodes: names or globs of the nodes to leave in float.
        reduce_range: 7 bits for the weights.
        extra_options: onnxruntime's, as they are.
        skip_steps: keys of preparation steps that are left out.
    """

    is_quantized: ClassVar[bool] = True
    is_reduced: ClassVar[bool] = True
    weight: Annotated[IntegerType, Crossed("weights")] = "QInt8"
    per_channel: Annotated[bool, Crossed("per_channel")] = False
    reduce_range: Annotated[bool, Crossed("reduce_range")] = False
    op_types: Annotated[list[str], Crossed("op_types")] = []
    nodes: list[str] = []
    exclude_nodes: list[str] = []
    extra_options: Annotated[ExtraOptions, Crossed("extra_options")] = {}
    file_format: Annotated[FileFormat, Crossed("file_formats")] = "onnx"
    skip_steps: list[StepKey] = []


@register
class DynamicSpec(IntegerSpec):
    """Integer weights; activations are quantized at run time, as QUInt8."""

    shown: ClassVar[tuple[str, ...]] = ("weight",)
    method: Literal["dynamic"] = "dynamic"

    def words(self) -> tuple[str | None, ...]:
        """The type of the weights."""
        return (SHORT[self.weight],)


@register
class StaticSpec(IntegerSpec):
    """Integer weights and activations, with ranges from calibration data.

    Attributes:
        calibration_data: other data than the study's, for this variant alone.
        calibration_options: of the calibration itself, such as ``percentile``, ``num_bins``, ``num_quantized_bins``.
    """

    shown: ClassVar[tuple[str, ...]] = ("format", "activation", "weight")
    has_ranges: ClassVar[bool] = True
    method: Literal["static"] = "static"
    format: Annotated[Format, Crossed("formats")] = "QDQ"
    activation: Annotated[IntegerType, Crossed("activations")] = "QUInt8"
    calibration: Annotated[CalibrationMethod, Crossed("calibrations")] = "MinMax"
    calibration_data: str | None = None
    calibration_options: CalibrationOptions = {}

    def words(self) -> tuple[str | None, ...]:
        """The format, and the types of activations and weights."""
        return (self.format, SHORT[self.activation] + SHORT[self.weight])


@register
class NBitsSpec(VariantSpec):
    """Weights of a few bits in blocks.

    Attributes:
        accuracy_level: 0 leaves it to onnxruntime.
        calibration_data: other data than the study's, for this variant alone.
        nodes: names or globs of the only nodes to quantize; empty means all.
        exclude_nodes: names or globs of the nodes to leave in float.
        skip_steps: keys of preparation steps that are left out.
    """

    # k_quant and HQQ set their zero points themselves, and only GPTQ looks at data.
    IDLE: ClassVar[dict[str, tuple[str, ...]]] = {
        "DEFAULT": ("calibration_data",),
        "RTN": ("calibration_data",),
        "k_quant": ("symmetric", "calibration_data"),
        "HQQ": ("symmetric", "calibration_data"),
        "GPTQ": (),
    }
    shown: ClassVar[tuple[str, ...]] = ("bits", "block_size")
    is_quantized: ClassVar[bool] = True
    is_reduced: ClassVar[bool] = True
    method: Literal["nbits"] = "nbits"
    format: Annotated[Format, Crossed("formats")] = "QDQ"
    bits: Annotated[Bits, Crossed("bits")] = 4
    block_size: Annotated[BlockSize, Crossed("block_sizes")] = 32
    accuracy_level: Annotated[AccuracyLevel, Crossed("accuracy_levels")] = 0
    symmetric: bool = True
    algorithm: Annotated[Algorithm, Crossed("algorithms")] = "DEFAULT"
    calibration_data: str | None = None
    nodes: list[str] = []
    exclude_nodes: list[str] = []
    file_format: Annotated[FileFormat, Crossed("file_formats")] = "onnx"
    skip_steps: list[StepKey] = []

    def values(self) -> dict[str, Any]:
        """None for what the algorithm does not use."""
        return super().values() | dict.fromkeys(self.IDLE[self.algorithm])

    def words(self) -> tuple[str | None, ...]:
        """Bits and block size, and what is not as usual."""
        is_asymmetric = not self.symmetric and "symmetric" not in self.IDLE[self.algorithm]
        return (
            f"{self.bits}b{self.block_size}",
            None if self.format == "QDQ" else self.format,
            None if self.algorithm == "DEFAULT" else self.algorithm,
            "asym" if is_asymmetric else None,
            f"acc{self.accuracy_level}" if self.accuracy_level else None,
        )


@register
class GivenSpec(VariantSpec):
    """A finished model, quantized or not.

    Attributes:
        model: with the inputs and outputs of the study's own model; None is that model itself.
    """

    is_copied: ClassVar[bool] = True
    is_prepared: ClassVar[bool] = False
    method: Literal["given"] = "given"
    model: str | None = None

    @model_validator(mode="after")
    def _names_its_model(self) -> GivenSpec:
        if self.model is None:
            message = (
                'a variant of method given needs a finished model: model = "FILE.onnx"; to use the study\'s own model as it is, '
                'methods = ["given"] under [variants]'
            )
            raise ValueError(message)
        return self


class VariantsSection(Section):
    """``[variants]``: lists that are crossed; each method takes those that mean something to it.

    Attributes:
        reduce_range: 7 bits for the weights, of dynamic and static.
        extra_options: onnxruntime's, of dynamic and static; ``{}`` is none.
        bits: of one weight of ``nbits``; likewise block_sizes, accuracy_levels (0 leaves it to onnxruntime) and algorithms.
        file_formats: ``onnx``, or onnxruntime's own for a platform; of every method but ``given``.
        skip_steps: keys of preparation steps that are left out; not crossed but given to every recipe that has such steps.
    """

    methods: list[MethodName] = ["fp32", "fp16", "dynamic", "static"]
    formats: list[Format] = ["QDQ", "QOperator"]
    activations: list[IntegerType] = ["QInt8", "QUInt8"]
    weights: list[IntegerType] = ["QInt8", "QUInt8"]
    per_channel: list[bool] = [False]
    reduce_range: list[bool] = [False]
    calibrations: list[CalibrationMethod] = ["MinMax"]
    op_types: list[list[str]] = [[]]
    extra_options: list[ExtraOptions] = [{}]
    algorithms: list[Algorithm] = ["DEFAULT"]
    bits: list[Bits] = [4]
    block_sizes: list[BlockSize] = [32]
    accuracy_levels: list[AccuracyLevel] = [0]
    file_formats: list[FileFormat] = ["onnx"]
    skip_steps: list[StepKey] = []


def crossed_by(spec: type[VariantSpec]) -> dict[str, str]:
    """A method's keys that a list of ``[variants]`` has values for, by that list's name, in the order of the lists."""
    found = {mark.by: key for key, field in spec.model_fields.items() for mark in field.metadata if isinstance(mark, Crossed)}
    return {name: found[name] for name in VariantsSection.model_fields if name in found}
