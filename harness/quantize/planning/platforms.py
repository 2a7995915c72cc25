"""What a platform's runtime and instruction set make of a recipe: rules as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.method import method_of
from harness.quantize.model.versions import limits
from harness.quantize.planning.caveats import made_opset
from harness.quantize.planning.constraints import NARROW, static
from harness.quantize.platform import Platform, PlatformRule
from harness.quantize.target_nodes import op_types

if TYPE_CHECKING:
    from harness.quantize.model.outline import Summary
    from harness.quantize.recipe import Recipe


VNNI = frozenset({"avx512_vnni", "avx_vnni"})
BITS_SINCE = {2: "1.24", 4: "1.16", 8: "1.23"}  # of MatMulNBits


def _dynamic_conv(recipe: Recipe, model: Summary) -> bool:
    return recipe.method == "dynamic" and "Conv" in op_types(recipe) and model.kinds["Conv"] > 0


def _u8u8(recipe: Recipe) -> bool:
    """Whether activations and weights are unsigned; the activations of dynamic quantization always are."""
    signed = recipe.format == "QOperator" and recipe.per_channel  # Conv's are QInt8 then, whatever is asked for
    unsigned = recipe.method == "dynamic" or (recipe.method == "static" and recipe.activation == "QUInt8")
    return unsigned and recipe.weight == "QUInt8" and not signed


def _s8s8(recipe: Recipe, form: str) -> bool:
    return static(recipe, form) and recipe.activation == recipe.weight == "QInt8"


def _branches(model: Summary) -> bool:
    """Whether a tensor is taken by several nodes, or an operator is there whose signed form is not fused."""
    takers: dict[str, int] = {}
    for node in model.nodes:
        for name in node.inputs:
            takers[name] = takers.get(name, 0) + 1
    made = {name for node in model.nodes for name in node.outputs}
    operands = any(node.kind in {"Add", "Mul"} and node.constants for node in model.nodes)
    return operands or model.kinds["Concat"] > 0 or any(takers.get(name, 0) > 1 for name in made)


def _saturates(where: Platform, recipe: Recipe) -> bool:
    signed = recipe.weight == "QInt8" or (recipe.format == "QOperator" and recipe.per_channel)
    eight = recipe.method == "dynamic" or recipe.activation in {"QInt8", "QUInt8"}
    return where.is_x86 and bool(where.features) and VNNI.isdisjoint(where.features) and signed and eight


def _too_new(where: Platform, recipe: Recipe, model: Summary) -> bool:
    found = limits(where.runtime)
    return found is not None and recipe.file_format == "onnx" and made_opset(recipe, model) > found.opset


def _newer_format(where: Platform, recipe: Recipe, model: Summary) -> bool:
    found = limits(where.runtime)
    # The others are stamped for the oldest runtime of the study's devices.
    as_it_is = recipe.is_copied and recipe.file_format == "onnx"
    return found is not None and as_it_is and model.ir_version > found.ir


def _four_bits(recipe: Recipe) -> bool:
    blocks = recipe.method == "nbits" and recipe.format == "QDQ"
    return blocks or (static(recipe, "QDQ") and not NARROW.isdisjoint({recipe.activation, recipe.weight}))


VERSIONS = "each release from 1.15.1 to 1.31.1, on x86 with VNNI"
XEON = "onnxruntime 1.15.1 to 1.31.1 on a Xeon with AMX and VNNI: ResNet-18, MobileNetV2, BERT"
PLATFORM_RULES = (
    PlatformRule(
        "convinteger-s8",
        "refused",
        lambda p, r, m: _dynamic_conv(r, m) and r.weight == "QInt8" and p.runs(before="1.24.1"),
        "before 1.24.1 onnxruntime has no ConvInteger for QInt8 weights: NOT_IMPLEMENTED when it is loaded",
        "microsoft/onnxruntime#15888, #26585",
        VERSIONS + "; aarch64 1.17.3",
        "use QUInt8 weights, or remove Conv from op_types",
    ),
    PlatformRule(
        "convinteger-s8-slow",
        "slow",
        lambda p, r, m: _dynamic_conv(r, m) and r.weight == "QInt8" and p.runs(since="1.24.1"),
        "ConvInteger with QInt8 weights is 3 to 4 times slower than with QUInt8, 5 to 10 times slower than fp32",
        "microsoft/onnxruntime#26585, #12854",
        XEON,
        "use static quantization for convolutions",
    ),
    PlatformRule(
        "convinteger-u8-slow",
        "slow",
        lambda p, r, m: _dynamic_conv(r, m) and r.weight == "QUInt8" and p.is_x86 and p.runs(since="1.25"),
        "dynamic convolutions run at 0.3 to 0.8 of fp32's speed",
        "microsoft/onnxruntime#12854, #27671",
        XEON,
        "use static quantization for convolutions",
    ),
    PlatformRule(
        "saturation",
        "less accurate",
        lambda p, r, _: _saturates(p, r) and r.per_channel and not r.reduce_range,
        "without VNNI the sums of products saturate at 16 bits, and per channel the weights are large enough (34 dB of SQNR became 19)",
        "VPMADDUBSW; microsoft/onnxruntime#12072, #6545, #14642",
        "a convolutional network on an emulated Haswell",
        "use reduce_range, QUInt8 weights in QDQ, or the session option session.x64quantprecision",
    ),
    PlatformRule(
        "u8u8-wrong",
        "wrong",
        lambda p, r, _: _u8u8(r) and p.is_x86 and "amx_int8" in p.features and p.runs("1.21.0", "1.25.0"),
        "QUInt8 with QUInt8 computes garbage on processors with AMX in 1.21.0 to 1.24.4",
        "microsoft/onnxruntime#26324, #27670, fixed by #27671",
        "a Xeon with AMX (36 dB of SQNR became 7); not on an EPYC, which has VNNI and no AMX",
        "use QInt8 weights, or another version of onnxruntime",
    ),
    PlatformRule(
        "u8u8-slow",
        "slow",
        lambda p, r, _: _u8u8(r) and p.is_x86 and not VNNI.isdisjoint(p.features) and p.runs(since="1.25.0"),
        "since 1.25.0 QUInt8 weights with QUInt8 activations are 1.6 to 2.8 times slower than QInt8 weights on processors with VNNI",
        "microsoft/onnxruntime#27671",
        XEON,
        "use QInt8 weights",
    ),
    PlatformRule(
        "qoperator-s8s8-slow",
        "slow",
        lambda p, r, _: _s8s8(r, "QOperator") and p.is_x86,
        "QOperator with QInt8 activations and weights is 4 to 9 times slower than fp32 on x86",
        "check_static_quant_arguments in onnxruntime/quantization/quantize.py; microsoft/onnxruntime#6732",
        XEON,
        "use QUInt8 activations, or format QDQ",
    ),
    PlatformRule(
        "qdq-s8s8-unfused",
        "slow",
        lambda p, r, m: _s8s8(r, "QDQ") and p.is_x86 and _branches(m),
        "on x86, signed activations stay float at residual branches (tensors with several consumers), at Concat, and at Add or Mul with a constant",
        "onnxruntime/core/optimizer/qdq_transformer/qdq_s8_to_u8.cc; microsoft/onnxruntime#12487",
        "",
        "use QUInt8 activations",
    ),
    PlatformRule(
        "fp16-x86",
        "slow",
        lambda p, r, _: r.method == "fp16" and p.is_x86,
        "on x86, fp16 only halves the size of the file: it is computed in float32, with Casts in between",
        "microsoft/onnxruntime#3552, #11831",
        XEON,
    ),
    PlatformRule(
        "fp16-arm",
        "slow",
        lambda p, r, _: r.method == "fp16" and p.is_arm and bool(p.features) and "asimdhp" not in p.features,
        "without half-precision arithmetic (asimdhp) fp16 is computed in float32, with Casts in between",
        "onnxruntime/core/mlas/lib/fp16_common.h; microsoft/onnxruntime#25824",
        "emulated Cortex-A53",
    ),
    PlatformRule(
        "opset",
        "refused",
        _too_new,
        "its onnxruntime is older than the file's operator set",
        "harness/quantize/model/versions.py; docs/Versioning.md of onnxruntime; microsoft/onnxruntime#16584",
        VERSIONS,
        "install a newer onnxruntime, or export the model with an older opset",
    ),
    PlatformRule(
        "ir-version",
        "refused",
        _newer_format,
        "its onnxruntime does not know the IR version of the model's file",
        "harness/quantize/model/versions.py; docs/Versioning.md of onnxruntime",
        VERSIONS,
        "export the model with an older IR version",
    ),
    PlatformRule(
        "four-bit-types",
        "refused",
        lambda p, r, _: _four_bits(r) and p.runs(before="1.19"),
        "before 1.19 onnxruntime has no kernels for 4-bit tensors",
        "DequantizeLinear-21 in onnxruntime",
        VERSIONS,
        "install a newer onnxruntime",
    ),
    PlatformRule(
        "matmulnbits",
        "refused",
        lambda p, r, _: (
            r.method == "nbits" and r.format == "QOperator" and r.bits is not None and p.runs(before=BITS_SINCE[r.bits])
        ),
        "its onnxruntime is too old for MatMulNBits with this number of bits: 4 since 1.16, 8 since 1.23, 2 since 1.24",
        "MatMulNBits in docs/ContribOperators.md of onnxruntime",
        VERSIONS,
        "install a newer onnxruntime",
    ),
    PlatformRule(
        "ort-format-other",
        "refused",
        lambda p, r, _: (r.file_format == "ort-amd64" and p.is_arm) or (r.file_format == "ort-arm" and p.is_x86),
        "a file in onnxruntime's format holds the graph as it was optimized for another architecture, 3 to 6 times slower here: it is not run",
        "onnxruntime/python/tools/convert_onnx_models_to_ort.py (--target_platform)",
        "MobileNetV2 QDQ on an emulated aarch64 and on a Xeon",
        "make one .ort file for each architecture",
    ),
    PlatformRule(
        "ort-format-float",
        "slow",
        lambda p, r, _: r.file_format == "ort-amd64" and r.method in {"prepared", "fp16"} and p.is_x86,
        "onnxruntime's format can't hold the blocked layout (NCHWc) of float convolutions: 2.4 times slower than the .onnx",
        "onnxruntime/core/optimizer/nchwc_transformer.cc",
        "MobileNetV2 on a Xeon",
    ),
    PlatformRule(
        "sme-dynamic",
        "wrong",
        lambda p, r, _: (
            r.method == "dynamic" and r.weight == "QInt8" and p.is_arm and "sme" in p.features and p.runs("1.24", "1.25")
        ),
        "dynamic MatMul with QInt8 weights computed garbage in 1.24.4 with SME (KleidiAI); not confirmed on hardware",
        "onnxruntime/core/mlas/lib/kleidiai",
        "an emulated aarch64 with SME",
        "set the session option mlas.disable_kleidiai",
    ),
)


def verdicts(where: Platform, recipe: Recipe, model: Summary) -> tuple[PlatformRule, ...]:
    """List what is known of a recipe on a platform, refusals first."""
    found = [rule for rule in (*PLATFORM_RULES, *method_of(recipe).platform_rules) if rule.applies(where, recipe, model)]
    order = ("refused", "wrong", "less accurate", "slow")
    return tuple(sorted(found, key=lambda rule: order.index(rule.effect)))
