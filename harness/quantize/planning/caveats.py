"""What is made other than its recipe says, or other than a reader would expect: rules as data, like those of what can't exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize import opset
from harness.quantize.method import method_of
from harness.quantize.model.outline import BIAS_INPUT
from harness.quantize.planning.constraints import NARROW, WIDE, static, widens
from harness.quantize.rule import Rule
from harness.quantize.target_nodes import FIRST_OPSET, MATRIX, STATIC_OPS, op_types, target_nodes

if TYPE_CHECKING:
    from harness.quantize.model.outline import Node, Summary
    from harness.quantize.recipe import Recipe

OPERATORS = "onnxruntime/quantization/operators"
# QDQ pairs around these stay pairs: onnxruntime's CPU provider computes them in float.
NEVER_INTEGER = frozenset(
    {
        *("BatchNormalization", "ConvTranspose", "CumSum", "Div", "Erf", "GRU", "HardSigmoid", "InstanceNormalization", "LSTM"),
        *("LayerNormalization", "PRelu", "Pad", "ReduceMean", "Sub", "Tanh", "TopK"),
    }
)
CLAMPS = frozenset({"Clip", "Relu"})


def made_opset(recipe: Recipe, model: Summary) -> int:
    """The version of the standard operator set that a recipe's file has: some recipes need a newer one, and raise it."""
    wide = static(recipe, "QDQ") and not WIDE.isdisjoint({recipe.activation, recipe.weight})
    blocks = static(recipe) and recipe.options().get("BlockSize")
    needed = opset.BLOCKS if wide or blocks else opset.needed(recipe)
    return max(model.opset, needed)


def _names(recipe: Recipe, kinds: frozenset[str]) -> bool:
    """Whether the study names some of these op types itself."""
    return not kinds.isdisjoint(recipe.op_types)


def _has(model: Summary | None, *kinds: str) -> bool:
    return model is not None and any(model.kinds[kind] for kind in kinds)


def _has_one_scale(recipe: Recipe, node: Node) -> bool:
    """Whether a node's weight can't have a scale for each channel."""
    if node.kind == "ConvTranspose":
        return recipe.format == "QDQ" and node.group > 1 and bool(node.weights) and BIAS_INPUT[node.kind] < len(node.inputs)
    if node.kind != "MatMul":
        return False
    on_the_left = static(recipe) and 0 in node.constants and (recipe.weight or "").startswith("QUInt")
    return on_the_left or any(len(weight.dims) not in {0, MATRIX} for weight in node.weights)


def _too_early(recipe: Recipe, model: Summary | None) -> bool:
    """Whether the model has operators whose version its opset has can't be quantized."""
    if model is None or not static(recipe):
        return False
    wanted = op_types(recipe)
    return any(_has(model, kind) and kind in wanted and made_opset(recipe, model) < first for kind, first in FIRST_OPSET.items())


CAVEATS = (
    Rule(
        "qoperator-per-channel",
        lambda r, m: (
            static(r, "QOperator")
            and r.per_channel
            and r.weight != "QInt8"
            and "Conv" in op_types(r)
            and (m is None or _has(m, "Conv"))
        ),
        "the weights of Conv are QInt8 per channel, whatever type the recipe names",
        f"QLinearConv in {OPERATORS}/conv.py",
    ),
    Rule(
        "dynamic-per-channel-conv",
        lambda r, m: r.method == "dynamic" and r.per_channel and "Conv" in op_types(r) and (m is None or _has(m, "Conv")),
        "the weights of Conv have one scale, per channel or not",
        f"ConvInteger in {OPERATORS}/conv.py",
    ),
    Rule(
        "per-channel-unfit",
        lambda r, m: (
            r.method in {"dynamic", "static"}
            and r.per_channel
            and m is not None
            and any(_has_one_scale(r, node) for node in target_nodes(r, m))
        ),
        "some weights have one scale instead of one for each channel: MatMul weights that are not matrices, matrices of unsigned integers on "
        "MatMul's left side, and in QDQ the weights of a grouped ConvTranspose with a bias",
        f"{OPERATORS}/matmul.py, {OPERATORS}/conv.py; harness/quantize/steps/per_channel.py",
    ),
    Rule(
        "computed-bias",
        lambda r, m: (
            static(r, "QOperator")
            and m is not None
            and any(node.kind in {"Conv", "Gemm"} & op_types(r) and node.has_computed_bias for node in m.nodes)
        ),
        "a Conv or Gemm whose bias is computed stays in float, because the QOperator format takes constant biases only",
        "quantize_bias_static in onnxruntime/quantization/onnx_quantizer.py; harness/quantize/steps/computed_operands.py",
    ),
    Rule(
        "block-biases",
        lambda r, m: (
            static(r, "QDQ")
            and bool(r.options().get("BlockSize"))
            and m is not None
            and any(BIAS_INPUT.get(node.kind, len(node.inputs)) in node.constants for node in target_nodes(r, m))
        ),
        "a bias stays in float if its weight is quantized in blocks",
        "quantize_bias_tensor in onnxruntime/quantization/qdq_quantizer.py; harness/quantize/steps/block_biases.py",
    ),
    Rule(
        "entropy-is-minmax",
        lambda r, _: static(r) and r.calibration == "Entropy" and not _bins(r),
        "Entropy with onnxruntime's own number of bins (128) finds the ranges of MinMax",
        "EntropyCalibrater in onnxruntime/quantization/calibrate.py; microsoft/onnxruntime#9597",
        "calibration_options = { num_bins = 2048 } searches, but can ruin a model",
    ),
    Rule(
        "moving-average",
        lambda r, _: (
            static(r)
            and bool(r.options().get("CalibMovingAverage") or r.options("calibration").get("moving_average"))
            and r.calibration == "MinMax"
        ),
        "the moving average keeps little but the first sample's range (33.7 dB of SQNR became 17.3)",
        "MinMaxCalibrater in onnxruntime/quantization/calibrate.py, constant 0.01",
    ),
    Rule(
        "opset-raised",
        lambda r, m: m is not None and made_opset(r, m) > m.opset,
        "the model is raised from {opset}; runtimes that do not know the new opset refuse the file",
        "update_opset_version in onnxruntime/quantization/quant_utils.py, onnx.version_converter",
    ),
    Rule(
        "float-kernels",
        lambda r, _: static(r, "QDQ") and not (WIDE | NARROW).isdisjoint({r.activation, r.weight}),
        "16-bit and 4-bit types are computed in float between QuantizeLinear and DequantizeLinear on processors: slower than fp32",
        "selectors in onnxruntime/core/optimizer/qdq_transformer",
    ),
    Rule(
        "too-early",
        _too_early,
        "MaxPool before opset 12 and Resize before opset 11 stay float; the model has {opset}",
        f"{OPERATORS}/maxpool.py, {OPERATORS}/resize.py",
    ),
    Rule(
        "qoperator-cubic",
        lambda r, m: (
            static(r, "QOperator")
            and "Resize" in op_types(r)
            and m is not None
            and any(node.kind == "Resize" and node.mode == "cubic" for node in m.nodes)
        ),
        "the file loads, but fails when it runs: Resize has no 8-bit kernel for mode cubic",
        "onnxruntime/core/providers/cpu/tensor/upsample.cc ('Tensor type mismatch')",
        "remove Resize from op_types, or exclude the node",
    ),
    Rule(
        "qoperator-where",
        lambda r, m: static(r, "QOperator") and _has(m, "Where") and not r.options().get("ForceQuantizeNoInputCheck"),
        "a Where that takes quantized tensors stays in float (onnxruntime's tool alone refuses such a model: 'Invalid model with unknown "
        "initializers/tensors')",
        f"QLinearWhere in {OPERATORS}/where.py; harness/quantize/steps/float_takers.py",
        "ForceQuantizeNoInputCheck quantizes it",
    ),
    Rule(
        "never-integer",
        lambda r, _: static(r, "QDQ") and _names(r, NEVER_INTEGER),
        "some of the named op types have no 8-bit kernel: they are computed in float between QuantizeLinear and DequantizeLinear, which is slower",
        "selectors in onnxruntime/core/optimizer/qdq_transformer",
    ),
    Rule(
        "clamps-left-out",
        lambda r, m: (
            static(r)
            and bool(r.op_types)
            and "Conv" in r.op_types
            and m is not None
            and any(_has(m, kind) and kind not in r.op_types for kind in CLAMPS)
        ),
        "Relu or Clip is not among the op types, so the values are converted to float and back at each of them (MobileNetV2: 1.8 times "
        "slower)",
        f"QDQRemovableActivation in {OPERATORS}/activation.py",
    ),
    Rule(
        "clamps-kept",
        lambda r, m: (
            static(r)
            and (bool(r.options().get("ActivationSymmetric")) or widens(r) or r.calibration == "Distribution")
            and (m is None or _has(m, *CLAMPS))
        ),
        "with symmetric activations or ranges, Relu and Clip stay in the graph; otherwise the range of their output replaces the clamping",
        f"QDQRemovableActivation, QLinearActivation in {OPERATORS}/activation.py; harness/quantize/steps/keep_clamps.py",
    ),
    Rule(
        "block-size-8",
        lambda r, _: static(r, "QDQ") and bool(r.options().get("BlockSize")) and r.weight == "QInt8" and r.activation == "QInt8",
        "before 1.32 onnxruntime fuses MatMul with 8-bit blocks into QLinearMatMul, which fails when it is run: leave the graph's "
        "optimization at basic; later versions compute it in float32",
        "QLinearMatMul in onnxruntime 1.31.1 ('weight zero point must be a scalar, 1D tensor')",
    ),
    Rule(
        "nested",
        lambda r, m: (
            r.method in {"dynamic", "static"}
            and m is not None
            and not (STATIC_OPS - {"Gather", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat"}).isdisjoint(m.nested)
            and not r.options().get("EnableSubgraph")
        ),
        "nodes in the bodies of If, Loop and Scan stay in float",
        "quantize_model in onnxruntime/quantization/onnx_quantizer.py (EnableSubgraph) and qdq_quantizer.py",
    ),
    Rule(
        "nothing",
        lambda r, m: (
            r.is_reduced and m is not None and not target_nodes(r, m) and not (m.nested and r.options().get("EnableSubgraph"))
        ),
        "the main graph has no node that it works on",
        "the model itself",
    ),
)


def caveats(recipe: Recipe, model: Summary | None = None) -> tuple[Rule, ...]:
    """List what a reader should know of a recipe before it is made."""
    return tuple(rule for rule in (*CAVEATS, *method_of(recipe).caveats) if rule.applies(recipe, model))


def _bins(recipe: Recipe) -> bool:
    return not {"num_bins", "num_quantized_bins"}.isdisjoint(recipe.options("calibration"))
