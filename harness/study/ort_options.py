"""The options of onnxruntime's tools that a study may set: names, types, and which of the tools read them.

As onnxruntime 1.32.0 has them: documented in ``onnxruntime/quantization/quantize.py``, or only read there (``CalibPercentile``,
``BlockSize``, ``DefaultTensorType``); tests/study/test_ort_options.py compares this table with the library's code.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from harness.study.toml_file import nearest

DYNAMIC, QOPERATOR, QDQ = "dynamic", "QOperator", "QDQ"
STATIC = frozenset({QOPERATOR, QDQ})
ALL = STATIC | {DYNAMIC}
BOOLEAN, WHOLE, NUMBER, TEXT = "true or false", "a whole number", "a number", "text"
NAMES, AXES, TABLES = "a list of names", "a table of whole numbers", "a table, for each tensor a table or a list of tables"
# Of TensorProto's types those that DefaultTensorType may name.
FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


class Option(NamedTuple):
    """An extra option.

    Attributes:
        kind: of its value.
        of: which quantizers read it: ``dynamic``, ``QOperator``, ``QDQ``.
    """

    kind: str
    of: frozenset[str]


OPTIONS = {
    "extra.Sigmoid.nnapi": Option(BOOLEAN, frozenset({QOPERATOR})),
    "ActivationSymmetric": Option(BOOLEAN, STATIC),
    "ActivationRestrictedAsymmetric": Option(BOOLEAN, STATIC),
    "WeightSymmetric": Option(BOOLEAN, ALL),
    "EnableSubgraph": Option(BOOLEAN, frozenset({DYNAMIC, QOPERATOR})),
    "ForceQuantizeNoInputCheck": Option(BOOLEAN, ALL),
    "MatMulConstBOnly": Option(BOOLEAN, frozenset({DYNAMIC, QOPERATOR})),
    "AddQDQPairToWeight": Option(BOOLEAN, frozenset({QDQ})),
    "OpTypesToExcludeOutputQuantization": Option(NAMES, frozenset({QDQ})),
    "DedicatedQDQPair": Option(BOOLEAN, frozenset({QDQ})),
    "QDQOpTypePerChannelSupportToAxis": Option(AXES, frozenset({QDQ})),
    "CalibTensorRangeSymmetric": Option(BOOLEAN, STATIC),
    "CalibStridedMinMax": Option(WHOLE, STATIC),
    "CalibMovingAverage": Option(BOOLEAN, STATIC),
    "CalibMovingAverageConstant": Option(NUMBER, STATIC),
    "CalibMaxIntermediateOutputs": Option(WHOLE, STATIC),
    "CalibPercentile": Option(NUMBER, STATIC),
    "QuantizeBias": Option(BOOLEAN, frozenset({QDQ})),
    "SmoothQuant": Option(BOOLEAN, STATIC),
    "SmoothQuantAlpha": Option(NUMBER, STATIC),
    "SmoothQuantFolding": Option(BOOLEAN, STATIC),
    "UseQDQContribOps": Option(BOOLEAN, frozenset({QDQ})),
    "MinimumRealRange": Option(NUMBER, ALL),
    "TensorQuantOverrides": Option(TABLES, ALL),
    "QDQKeepRemovableActivations": Option(BOOLEAN, frozenset({QDQ})),
    "QDQDisableWeightAdjustForInt32Bias": Option(BOOLEAN, frozenset({QDQ})),
    "BlockSize": Option(WHOLE, frozenset({QDQ})),
    "DefaultTensorType": Option(TEXT, frozenset({DYNAMIC, QOPERATOR})),
}
# Of create_calibrator; per_channel is not among them: its ranges are arrays, which no quantizer takes.
CALIBRATION_OPTIONS = {
    "symmetric": BOOLEAN,
    "moving_average": BOOLEAN,
    "averaging_constant": NUMBER,
    "num_bins": WHOLE,
    "num_quantized_bins": WHOLE,
    "percentile": NUMBER,
    "scenario": TEXT,
}
# Of a tensor's override; ``convert`` is a table of its own.
OVERRIDES = {
    "quant_type": TEXT,
    "scale": NUMBER,
    "zero_point": WHOLE,
    "symmetric": BOOLEAN,
    "reduce_range": BOOLEAN,
    "rmin": NUMBER,
    "rmax": NUMBER,
    "axis": WHOLE,
    "convert": "a table",
}
CONVERSION = {key: OVERRIDES[key] for key in ("quant_type", "scale", "zero_point", "symmetric", "rmin", "rmax")} | {
    "recv_nodes": NAMES
}
# What scale and zero_point say already.
SAID_BY_SCALE = {"symmetric", "reduce_range", "rmin", "rmax"}
TYPES = ("QInt8", "QUInt8", "QInt16", "QUInt16", "QInt4", "QUInt4")
TOGETHER = (("scale", "zero_point"), ("rmin", "rmax"))


def check_extra(value: dict[str, Any]) -> dict[str, Any]:
    """Check ``extra_options``.

    Raises:
        ValueError: if onnxruntime has no such option, or its value is of another type.
    """
    for name, given in _plain(value).items():
        if name not in OPTIONS:
            message = f"onnxruntime has no option '{name}'; {nearest(name, list(OPTIONS))}"
            raise ValueError(message)
        _check_kind(name, given, OPTIONS[name].kind)
    for tensor, given in value.get("TensorQuantOverrides", {}).items():
        for each in given if isinstance(given, list) else [given]:
            _check_override(f"TensorQuantOverrides of '{tensor}'", each, OVERRIDES)
    kind = value.get("DefaultTensorType", FLOATS[0])
    if kind not in FLOATS:
        message = f"DefaultTensorType must be one of {', '.join(FLOATS)}, not {kind!r}"
        raise ValueError(message)
    return value


# Beyond them a calibration fails, after it went over all data.
CALIBRATION_LIMITS = {
    "percentile": (0, 100),
    "averaging_constant": (0, 1),
    "num_bins": (1, 2**20),
    "num_quantized_bins": (1, 2**20),
}


def check_calibration(value: dict[str, Any]) -> dict[str, Any]:
    """Check ``calibration_options``.

    Raises:
        ValueError: if onnxruntime's calibrators have no such option, or its value is of another type or out of range.
    """
    for name, given in _plain(value).items():
        if name not in CALIBRATION_OPTIONS:
            message = f"onnxruntime's calibration has no option '{name}'; {nearest(name, list(CALIBRATION_OPTIONS))}"
            raise ValueError(message)
        _check_kind(name, given, CALIBRATION_OPTIONS[name])
        least, most = CALIBRATION_LIMITS.get(name, (given, given))
        if not least <= given <= most:
            message = f"{name} must be from {least} to {most}, not {given}"
            raise ValueError(message)
    return value


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse values that TOML knows and onnxruntime's options do not, such as dates."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as exc:
        message = f"options must be numbers, text, booleans, lists or tables: {exc}"
        raise ValueError(message) from exc
    return value


def _check_override(where: str, given: object, known: dict[str, str]) -> None:
    """Check one table of a tensor; of several, each is for a channel."""
    if not isinstance(given, dict):
        message = f"{where} must be a table, not {given!r}"
        raise ValueError(message)  # noqa: TRY004 - pydantic takes ValueError
    for key, value in given.items():
        if key not in known:
            message = f"{where} has no key '{key}'; {nearest(key, list(known))}"
            raise ValueError(message)
        if key == "convert":
            _check_override(f"{where}, convert", value, CONVERSION)
        else:
            _check_kind(f"{where}: {key}", value, known[key])
    kind = given.get("quant_type")
    if kind is not None and kind not in TYPES:
        message = f"{where}: quant_type can't be '{kind}'; {nearest(kind, TYPES)}"
        raise ValueError(message)
    if known is CONVERSION and kind is None:
        message = f"{where} needs a quant_type"
        raise ValueError(message)
    for one, other in TOGETHER:
        if (one in given) != (other in given):
            message = f"{where}: {one} and {other} must be given together"
            raise ValueError(message)
    if "scale" in given and (spare := SAID_BY_SCALE & set(given)):
        message = f"{where}: {', '.join(sorted(spare))} can't be combined with scale"
        raise ValueError(message)


def _check_kind(name: str, given: object, kind: str) -> None:
    """Refuse a value of another type; ``True`` is no number here."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    fits = {
        BOOLEAN: isinstance(given, bool),
        WHOLE: number and isinstance(given, int),
        NUMBER: number,
        TEXT: isinstance(given, str),
        NAMES: isinstance(given, list) and all(isinstance(each, str) for each in given),
        AXES: isinstance(given, dict) and all(isinstance(each, int) and not isinstance(each, bool) for each in given.values()),
        TABLES: isinstance(given, dict),
    }
    if not fits[kind]:
        message = f"{name} is {kind}, not {given!r:.200}"
        raise ValueError(message)
