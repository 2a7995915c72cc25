"""Which recipes can't exist, and why: rules as data, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.quantize.recipe import Recipe

# What onnxruntime 1.31.1 has a quantizer for; QDQ gives any other operator generic pairs of nodes.
DYNAMIC_OPS = frozenset({"Attention", "Conv", "EmbedLayerNormalization", "Gather", "Gemm", "LSTM", "MatMul", "Transpose"})
QOPERATOR_OPS = frozenset(
    {
        *("Add", "ArgMax", "AveragePool", "Clip", "Concat", "Conv", "EmbedLayerNormalization", "Flatten", "Gather", "Gemm"),
        *("GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Softmax"),
        *("Split", "Squeeze", "Transpose", "Unsqueeze", "Where"),
    }
)
# Of MatMulNBits.
BLOCK_SIZES = (16, 32, 64, 128, 256)
FOUR_BITS = 4
SMOOTH_QUANT = "neural_compressor.adaptor.ox_utils.smooth_quant"
NBITS_TOOL = "onnxruntime/quantization/matmul_nbits_quantizer.py"


@dataclass(frozen=True)
class Rule:
    """A combination that can't exist.

    Attributes:
        applies: says whether a recipe is one.
        reason: why it can't.
        source: where that is written.
    """

    applies: Callable[[Recipe], bool]
    reason: str
    source: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.source})"


RULES = (
    Rule(
        lambda r: r.method == "static" and r.activation == "QInt8" and r.weight == "QUInt8",
        "onnxruntime quantization doesn't support activations QInt8 with weights QUInt8",
        "check_static_quant_arguments in onnxruntime/quantization/quantize.py",
    ),
    Rule(
        lambda r: r.method == "dynamic" and bool(r.op_types) and DYNAMIC_OPS.isdisjoint(r.op_types),
        "dynamic quantization has no integer operator for any of the op types",
        "IntegerOpsRegistry in onnxruntime/quantization/registry.py",
    ),
    Rule(
        lambda r: r.format == "QOperator" and bool(r.op_types) and QOPERATOR_OPS.isdisjoint(r.op_types),
        "the QOperator format has no quantized operator for any of the op types; QDQ can wrap them",
        "QLinearOpsRegistry in onnxruntime/quantization/registry.py",
    ),
    Rule(
        lambda r: r.method == "nbits" and r.format == "QDQ" and r.bits != FOUR_BITS,
        'QDQ holds blockwise weights of 4 bits only, other nodes stay in float; format = "QOperator" holds 2, 4 and 8',
        f"DefaultWeightOnlyQuantizer in {NBITS_TOOL}",
    ),
    Rule(
        lambda r: r.method == "nbits" and r.format == "QDQ" and r.algorithm != "DEFAULT",
        'only the algorithm DEFAULT writes QDQ; format = "QOperator" takes the others',
        f"WeightOnlyQuantConfig and its kinds in {NBITS_TOOL}",
    ),
    Rule(
        lambda r: r.method == "nbits" and r.format == "QDQ" and bool(r.accuracy_level),
        "a QDQ file has no place for an accuracy level; where it runs, session.qdq_matmulnbits_accuracy_level sets it",
        f"DefaultWeightOnlyQuantizer.quantize_matmul in {NBITS_TOOL}",
    ),
    Rule(
        lambda r: r.method == "nbits" and r.format == "QOperator" and r.block_size not in BLOCK_SIZES,
        f"MatMulNBits has blocks of {', '.join(map(str, BLOCK_SIZES))}",
        "onnxruntime/contrib_ops/cpu/quantization/matmul_nbits.cc",
    ),
    Rule(
        lambda r: (r.algorithm in {"RTN", "k_quant"} and r.bits not in {4, 8}) or (r.algorithm == "GPTQ" and r.bits != FOUR_BITS),
        "the algorithm writes MatMulNBits with 4 bits (RTN and k_quant: or 8), and rounded weights in float for others",
        "rtn_quantize and gptq_quantize in onnxruntime/quantization/neural_compressor/weight_only.py",
    ),
    Rule(
        lambda r: r.algorithm == "HQQ" and bool(r.accuracy_level),
        "HQQ writes zero points in float, and no accuracy level, as onnxruntime computes such blocks in float",
        f"HQQWeightOnlyQuantizer in {NBITS_TOOL}",
    ),
    Rule(
        lambda r: r.algorithm == "HQQ" and find_spec("torch") is None,
        "HQQ needs the package torch, which is not installed here: pip install torch",
        f"HQQWeightOnlyQuantizer in {NBITS_TOOL}",
    ),
    Rule(
        lambda r: "CalibMaxIntermediateOutputs" in r.options(),
        "CalibMaxIntermediateOutputs throws samples away: ranges come from the last few, or there are none; nothing needs it, "
        "as samples are taken one at a time",
        "MinMaxCalibrater.collect_data in onnxruntime/quantization/calibrate.py",
    ),
    Rule(
        lambda r: _widens(r) and not clamps(r),
        "symmetric ranges with asymmetric activations ruin models with Relu or Clip: these are removed, and the range that would "
        "clamp in their place is widened; set ActivationSymmetric = true, or with QDQ QDQKeepRemovableActivations = true",
        "QLinearActivation and QDQRemovableActivation in onnxruntime/quantization/operators/activation.py",
    ),
    Rule(
        lambda r: bool(r.options().get("SmoothQuant")) and not _importable(SMOOTH_QUANT),
        f"SmoothQuant needs the module {SMOOTH_QUANT}, which is not installed here; neural-compressor has it up to version 2",
        "quantize_static in onnxruntime/quantization/quantize.py",
    ),
)


def impossible(recipe: Recipe) -> str | None:
    """Say why a recipe can't exist.

    Returns:
        The rule and its source, or None if nothing is known against it.
    """
    return next((str(rule) for rule in RULES if rule.applies(recipe)), None)


def clamps(recipe: Recipe) -> bool:
    """Whether Relu and Clip are kept where ranges no longer do their work."""
    options = recipe.options()
    return bool(options.get("ActivationSymmetric") or (recipe.format == "QDQ" and options.get("QDQKeepRemovableActivations")))


def _widens(recipe: Recipe) -> bool:
    """Whether ranges are made symmetric about zero; Entropy and Percentile keep them within the smallest and largest value."""
    return recipe.calibration == "MinMax" and bool(
        recipe.options("calibration").get("symmetric", recipe.options().get("CalibTensorRangeSymmetric"))
    )


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
