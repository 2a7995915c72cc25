"""Which variants a study asks for: ``[variants]``, lists that are crossed, and ``[[variant]]``, one spelled out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from harness.study.ort_options import check_calibration, check_extra
from harness.study.toml_file import Section

Method = Literal["fp32", "prepared", "fp16", "dynamic", "static", "nbits", "given"]
Format = Literal["QDQ", "QOperator"]
IntegerType = Literal["QInt8", "QUInt8", "QInt16", "QUInt16", "QInt4", "QUInt4"]
CalibrationMethod = Literal["MinMax", "Entropy", "Percentile", "Distribution"]
Algorithm = Literal["DEFAULT", "RTN", "k_quant", "HQQ", "GPTQ"]
FileFormat = Literal["onnx", "ort-amd64", "ort-arm"]
Bits = Literal[2, 4, 8]
# The preparation steps that a recipe can skip; harness/quantize/steps/registry.py has what they do.
StepKey = Literal[
    "convert-constants",
    "copy-shared-constants",
    "copy-transposed-weights",
    "expand-axes",
    "float-beyond-range",
    "lone-softmax",
    "float-resize",
    "float-small-values",
    "float-block-biases",
    "float-computed-operands",
    "float-large-biases",
    "float-takers",
    "float16-range",
    "batch-transpose",
    "fold-gemm",
    "keep-clamps",
    "own-range",
    "rename-colliding-names",
    "per-tensor-weights",
]


def _plain_name(value: str) -> str:
    """Refuse names that can't be a folder's or a file's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", value):
        message = (
            f"a name is up to 100 letters, digits, '.', '_', '+' and '-', and begins with a letter or digit, not {value!r:.120}"
        )
        raise ValueError(message)
    return value


Name = Annotated[str, AfterValidator(_plain_name)]
ExtraOptions = Annotated[dict[str, Any], AfterValidator(check_extra)]
CalibrationOptions = Annotated[dict[str, Any], AfterValidator(check_calibration)]
BlockSize = Annotated[int, Field(ge=16)]
AccuracyLevel = Annotated[int, Field(ge=0, le=4)]


class VariantsSection(Section):
    """``[variants]``: lists that are crossed; each method takes those that mean something to it.

    Attributes:
        reduce_range: 7 bits for the weights, of dynamic and static.
        extra_options: onnxruntime's, of dynamic and static; ``{}`` is none.
        bits: of one weight of ``nbits``; likewise block_sizes, accuracy_levels (0 leaves it to onnxruntime) and algorithms.
        file_formats: ``onnx``, or onnxruntime's own for a platform; of every method but ``given``.
        skip_steps: keys of preparation steps that are left out; not crossed but given to every recipe that has such steps.
    """

    methods: list[Method] = ["fp32", "fp16", "dynamic", "static"]
    formats: list[Format] = ["QDQ", "QOperator"]
    activations: list[IntegerType] = ["QInt8", "QUInt8"]
    weights: list[IntegerType] = ["QInt8", "QUInt8"]
    per_channel: list[bool] = [False]
    reduce_range: list[bool] = [False]
    calibrations: list[CalibrationMethod] = ["MinMax"]
    op_types: list[list[str]] = [[]]
    extra_options: list[ExtraOptions] = [{}]
    bits: list[Bits] = [4]
    block_sizes: list[BlockSize] = [32]
    accuracy_levels: list[AccuracyLevel] = [0]
    algorithms: list[Algorithm] = ["DEFAULT"]
    file_formats: list[FileFormat] = ["onnx"]
    skip_steps: list[StepKey] = []


class VariantSpec(Section):
    """``[[variant]]``: one more, spelled out.

    Attributes:
        calibration_data: other data than the study's, for this variant alone.
        calibration_options: of the calibration itself, such as ``percentile``, ``num_bins``, ``num_quantized_bins``.
        nodes: names or globs of the only nodes to quantize; empty means all.
        exclude_nodes: names or globs of the nodes to leave in float; of ``fp16`` too.
        exclude_op_types: operators that ``fp16`` leaves in float, beside the converter's own list.
        keep_io_types: whether inputs and outputs of ``fp16`` stay float32.
        extra_options: onnxruntime's, as they are.
        bits: of one weight of ``nbits``; likewise block_size, accuracy_level (0 leaves it to onnxruntime), symmetric and algorithm.
        skip_steps: keys of preparation steps that are left out, of ``fp16``, ``dynamic``, ``static`` and ``nbits``.
        model: of ``given``: a finished model with the inputs and outputs of the study's own, quantized or not.
    """

    name: Name | None = None
    method: Method
    format: Format = "QDQ"
    activation: IntegerType = "QUInt8"
    weight: IntegerType = "QInt8"
    per_channel: bool = False
    reduce_range: bool = False
    calibration: CalibrationMethod = "MinMax"
    calibration_data: str | None = None
    calibration_options: CalibrationOptions = {}
    op_types: list[str] = []
    nodes: list[str] = []
    exclude_nodes: list[str] = []
    exclude_op_types: list[str] = []
    keep_io_types: bool = True
    extra_options: ExtraOptions = {}
    bits: Bits = 4
    block_size: BlockSize = 32
    accuracy_level: AccuracyLevel = 0
    symmetric: bool = True
    algorithm: Algorithm = "DEFAULT"
    file_format: FileFormat = "onnx"
    skip_steps: list[StepKey] = []
    model: str | None = None

    @model_validator(mode="after")
    def _names_its_model(self) -> VariantSpec:
        if self.method == "given" and self.model is None:
            message = (
                'given takes a finished model as it is: model = "FILE.onnx"; for the study\'s own, and nothing beside it, '
                'methods = ["given"] under [variants]'
            )
            raise ValueError(message)
        return self
