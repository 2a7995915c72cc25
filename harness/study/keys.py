"""The values that keys of ``[variants]`` and ``[[variant]]`` can have."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from harness.study.ort_options import check_calibration, check_extra

Format = Literal["QDQ", "QOperator"]
IntegerType = Literal["QInt8", "QUInt8", "QInt16", "QUInt16", "QInt4", "QUInt4"]
CalibrationMethod = Literal["MinMax", "Entropy", "Percentile", "Distribution"]
SHORT = {"QInt8": "S8", "QUInt8": "U8", "QInt16": "S16", "QUInt16": "U16", "QInt4": "S4", "QUInt4": "U4"}
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
    """Refuse names that can't be the name of a folder or file."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", value):
        message = f"a name has at most 100 letters, digits, '.', '_', '+' or '-', and begins with a letter or digit; this one is {value!r:.120}"
        raise ValueError(message)
    return value


Name = Annotated[str, AfterValidator(_plain_name)]
ExtraOptions = Annotated[dict[str, Any], AfterValidator(check_extra)]
CalibrationOptions = Annotated[dict[str, Any], AfterValidator(check_calibration)]
BlockSize = Annotated[int, Field(ge=16)]
AccuracyLevel = Annotated[int, Field(ge=0, le=4)]
