"""Which recipes can't exist, and why: rules as data, each with its source and a test on the real library."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from harness.quantize.method import method_of
from harness.quantize.rule import Rule
from harness.quantize.target_nodes import (
    DYNAMIC_OPS,
    MATRIX,
    QOPERATOR_OPS,
    has_only_special_gemms,
    op_types,
    target_nodes,
)

if TYPE_CHECKING:
    from harness.quantize.model.outline import Summary
    from harness.quantize.recipe import Recipe

QUANTIZE = "onnxruntime/quantization/quantize.py"
NBITS = "onnxruntime/quantization/matmul_nbits_quantizer.py"
WEIGHT_ONLY = "onnxruntime/quantization/neural_compressor/weight_only.py"
WIDE = frozenset({"QInt16", "QUInt16"})
NARROW = frozenset({"QInt4", "QUInt4"})
INTEL = frozenset({"RTN", "k_quant", "GPTQ"})  # the algorithms that came from Intel Neural Compressor
BLOCK_SIZES = (16, 32, 64, 128, 256)  # of MatMulNBits
FOUR_BITS = 4
KEEP_CLAMPS = "keep-clamps"  # the preparation step
SMOOTH_QUANT = "neural_compressor.adaptor.ox_utils.smooth_quant"


def static(recipe: Recipe, form: str | None = None) -> bool:
    """Whether a recipe is static, of one format or either."""
    return recipe.method == "static" and form in {None, recipe.format}


def _only_conv(recipe: Recipe, model: Summary | None) -> bool:
    """Whether, of the nodes with weights that a recipe works on, all are Conv."""
    if model is None:
        return op_types(recipe) & {"Conv", "Gemm", "MatMul", "Gather"} == {"Conv"}
    kinds = {node.kind for node in target_nodes(recipe, model) if node.constants}
    return kinds == {"Conv"}


def clamps(recipe: Recipe) -> bool:
    """Whether Relu and Clip are kept where ranges no longer do their work."""
    options = recipe.options()
    return bool(options.get("ActivationSymmetric") or (recipe.format == "QDQ" and options.get("QDQKeepRemovableActivations")))


def widens(recipe: Recipe) -> bool:
    """Whether ranges are made symmetric about zero; Entropy and Percentile keep them within the smallest and largest value."""
    said = recipe.options("calibration").get("symmetric", recipe.options().get("CalibTensorRangeSymmetric"))
    return recipe.calibration == "MinMax" and bool(said)


def _has_clamps(model: Summary | None) -> bool:
    return model is None or not {"Relu", "Clip"}.isdisjoint({*model.kinds, *model.nested})


def _float8(recipe: Recipe) -> bool:
    return "FLOAT8" in (recipe.extra_options or "").upper()


def _odd_blocks(recipe: Recipe, model: Summary | None) -> bool:
    """Whether a matrix has an odd number of blocks in a column."""
    if model is None or not recipe.block_size:
        return False
    matrices = [
        (node, weight.dims) for node in target_nodes(recipe, model) for weight in node.weights if len(weight.dims) >= MATRIX
    ]
    rows = [dims[-1] if node.turned else dims[-2] for node, dims in matrices]
    return any(-(-count // recipe.block_size) % 2 for count in rows)


RULES = (
    Rule(
        "s8-u8",
        lambda r, _: static(r) and r.activation == "QInt8" and r.weight == "QUInt8",
        "onnxruntime quantization doesn't support activations QInt8 with weights QUInt8",
        f"check_static_quant_arguments in {QUANTIZE}",
    ),
    Rule(
        "qoperator-16",
        lambda r, _: static(r, "QOperator") and not WIDE.isdisjoint({r.activation, r.weight}),
        "only the QDQ format has 16-bit types",
        f"check_static_quant_arguments in {QUANTIZE}",
    ),
    Rule(
        "activations-4",
        lambda r, m: (
            static(r)
            and r.activation in NARROW
            and (r.format == "QOperator" or m is None or bool(m.kinds["Conv"]) or bool(m.kinds["Gemm"]))
        ),
        "no runtime loads it: QLinearConv, QGemm and the QOperator format's QuantizeLinear take 8-bit activations",
        "QuantizeLinear, QLinearConv in the ONNX standard; session error INVALID_GRAPH in onnxruntime 1.31.1",
    ),
    Rule(
        "qoperator-4",
        lambda r, m: static(r, "QOperator") and r.weight in NARROW and not (r.per_channel and _only_conv(r, m)),
        "the QOperator format has no 4-bit weights: 'must be 8-bit before packing as 4-bit values'",
        "quantize_weight in onnxruntime/quantization/base_quantizer.py",
        "format QDQ has them",
    ),
    Rule(
        "dynamic-16",
        lambda r, _: r.method == "dynamic" and r.weight in WIDE,
        "no runtime loads it: ConvInteger and MatMulInteger take 8-bit weights",
        "ConvInteger, MatMulInteger in the ONNX standard; session error INVALID_GRAPH in onnxruntime 1.31.1",
    ),
    Rule(
        "dynamic-4",
        lambda r, _: r.method == "dynamic" and r.weight in NARROW,
        "dynamic quantization has no 4-bit weights: 'must be 8-bit before packing as 4-bit values'",
        "quantize_weight in onnxruntime/quantization/base_quantizer.py",
        "method nbits has them",
    ),
    Rule(
        "dynamic-ops",
        lambda r, _: r.method == "dynamic" and bool(r.op_types) and DYNAMIC_OPS.isdisjoint(r.op_types),
        "dynamic quantization has no integer operator for any of the op types",
        "IntegerOpsRegistry in onnxruntime/quantization/registry.py",
    ),
    Rule(
        "qoperator-ops",
        lambda r, _: r.format == "QOperator" and bool(r.op_types) and QOPERATOR_OPS.isdisjoint(r.op_types),
        "the QOperator format has no quantized operator for any of the op types; QDQ can wrap them",
        "QLinearOpsRegistry in onnxruntime/quantization/registry.py",
    ),
    Rule(
        "block-size-rank",
        lambda r, m: (
            static(r, "QDQ")
            and bool(r.options().get("BlockSize"))
            and m is not None
            and any(len(weight.dims) != MATRIX for node in target_nodes(r, m) for weight in node.weights)
        ),
        "BlockSize takes matrices only, and the model has weights of another rank",
        "quantize_onnx_initializer in onnxruntime/quantization/quant_utils.py (NotImplementedError)",
        "name op_types whose weights are matrices",
    ),
    Rule(
        "smooth-quant",
        lambda r, _: static(r) and bool(r.options().get("SmoothQuant")) and not _importable(SMOOTH_QUANT),
        f"SmoothQuant needs the module {SMOOTH_QUANT}, which is not installed here; neural-compressor has it up to version 2",
        f"quantize_static in {QUANTIZE}",
    ),
    Rule(
        "calib-max-intermediate-outputs",
        lambda r, _: "CalibMaxIntermediateOutputs" in r.options(),
        "CalibMaxIntermediateOutputs discards samples, so the ranges come from the last few, or there are none",
        "MinMaxCalibrater.collect_data in onnxruntime/quantization/calibrate.py",
        "it is not needed, because samples are read one at a time",
    ),
    Rule(
        "calib-symmetric",
        lambda r, m: widens(r) and not clamps(r) and _has_clamps(m) and KEEP_CLAMPS in r.skip_steps,
        "symmetric ranges with asymmetric activations ruin models with Relu or Clip (97 % accuracy became 8 %): Relu and Clip are removed, "
        "and the range that replaces their clamping is widened",
        "QLinearActivation and QDQRemovableActivation in onnxruntime/quantization/operators/activation.py",
        "do not skip keep-clamps, set ActivationSymmetric = true, or with QDQ QDQKeepRemovableActivations = true",
    ),
    Rule(
        "float-8",
        lambda r, _: _float8(r),
        "before 1.32 onnxruntime does not load 8-bit floats, and later versions compute such nodes in float32; they need Distribution "
        "calibration and both types float",
        f"quantize_static and check_static_quant_arguments in {QUANTIZE}; session error INVALID_GRAPH in onnxruntime 1.31.1",
    ),
    Rule(
        "nbits-qdq-bits",
        lambda r, _: r.method == "nbits" and r.format == "QDQ" and r.bits != FOUR_BITS,
        "the QDQ format has block-wise weights of 4 bits only; other nodes stay in float",
        f"DefaultWeightOnlyQuantizer in {NBITS}",
        'format = "QOperator" has 2, 4 and 8',
    ),
    Rule(
        "nbits-qdq-algorithm",
        lambda r, _: r.method == "nbits" and r.format == "QDQ" and r.algorithm != "DEFAULT",
        "only the algorithm DEFAULT writes QDQ",
        f"WeightOnlyQuantConfig and its kinds in {NBITS}",
        'format = "QOperator" takes the others',
    ),
    Rule(
        "nbits-qdq-accuracy-level",
        lambda r, _: r.method == "nbits" and r.format == "QDQ" and bool(r.accuracy_level),
        "a QDQ file can't store an accuracy level",
        f"DefaultWeightOnlyQuantizer.quantize_matmul in {NBITS}",
        "set it on the device: session.qdq_matmulnbits_accuracy_level",
    ),
    Rule(
        "nbits-no-matrix",
        lambda r, m: (
            r.method == "nbits" and m is not None and {"MatMul", "Gemm"}.isdisjoint(m.kinds) and "MatMul" not in m.nested
        ),
        "only weights of MatMul and Gemm are quantized in blocks, and the model has neither, or Gemm only in the bodies of If, Loop and Scan",
        f"MatMulNBitsQuantizer._process_subgraph in {NBITS}",
    ),
    Rule(
        "nbits-gemm",
        lambda r, m: r.method == "nbits" and m is not None and has_only_special_gemms(r, m),
        "there is no MatMul, and only Gemm{gemms} with alpha, beta or transA, which the tool leaves in float",
        "replace_gemm_with_matmul in onnxruntime/quantization/onnx_model.py; harness/quantize/steps/gemm.py",
        "the preparation step fold-gemm rewrites a Gemm with constant weights, unless skip_steps names it",
    ),
    Rule(
        "nbits-block-size",
        lambda r, _: r.method == "nbits" and r.format == "QOperator" and r.block_size not in BLOCK_SIZES,
        f"MatMulNBits has blocks of {', '.join(map(str, BLOCK_SIZES))}",
        "onnxruntime/contrib_ops/cpu/quantization/matmul_nbits.cc",
    ),
    Rule(
        "nbits-algorithm-bits",
        lambda r, _: (
            (r.algorithm in {"RTN", "k_quant"} and r.bits not in {FOUR_BITS, 8})
            or (r.algorithm == "GPTQ" and r.bits != FOUR_BITS)
        ),
        "the algorithm writes MatMulNBits with 4 bits (RTN and k_quant: or 8), and rounded weights in float for others",
        f"rtn_quantize and gptq_quantize in {WEIGHT_ONLY}",
    ),
    Rule(
        "nbits-odd-blocks",
        lambda r, m: (
            r.method == "nbits"
            and r.algorithm in INTEL
            and r.bits == FOUR_BITS
            and (r.symmetric is False or r.algorithm == "k_quant")
            and _odd_blocks(r, m)
        ),
        "a matrix has an odd number of blocks in a column, and this algorithm can't pack their 4-bit zero points",
        f"make_matmul_weight_only_node in {WEIGHT_ONLY}",
        "take another block size, or algorithm DEFAULT",
    ),
    Rule(
        "hqq-accuracy-level",
        lambda r, _: r.algorithm == "HQQ" and bool(r.accuracy_level),
        "HQQ writes zero points in float, and no accuracy level, as onnxruntime computes such blocks in float",
        f"HQQWeightOnlyQuantizer in {NBITS}",
    ),
    Rule(
        "hqq-torch",
        lambda r, _: r.algorithm == "HQQ" and find_spec("torch") is None,
        "HQQ needs the package torch, which is not installed here",
        f"HQQWeightOnlyQuantizer in {NBITS}",
        "pip install torch",
    ),
)


def impossible(recipe: Recipe, model: Summary | None = None) -> str | None:
    """Say why a recipe can't exist.

    Args:
        recipe: what is asked for.
        model: what it would be made of; without, only what holds for every model is said.

    Returns:
        The rule and its source, or None if nothing is known against it.
    """
    rule = first_violation(recipe, model)
    return f"{rule.message(model)} ({rule.source})" if rule else None


def first_violation(recipe: Recipe, model: Summary | None = None) -> Rule | None:
    """Find the first rule that is against a recipe."""
    rules = (*RULES, *method_of(recipe).constraints)
    return next((rule for rule in rules if rule.applies(recipe, model)), None)


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
