"""Which recipes give the same file, as far as that can be known before any is made: rules that rewrite a recipe to its simplest equivalent, so that duplicates are built once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.quantize.planning.constraints import QUANTIZE, static
from harness.quantize.recipe import spelled
from harness.quantize.target_nodes import op_types, target_nodes
from harness.study.ort_options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.quantize.model.outline import Summary
    from harness.quantize.recipe import Recipe

# What the preparation can bring into a graph that had none: fusions of onnxruntime's basic level, and its transpose optimizer.
BROUGHT_IN = frozenset(
    {
        *("Cast", "Clip", "Concat", "Conv", "Gemm", "Identity", "LayerNormalization", "Reshape", "Shape", "Slice", "Split"),
        *("Squeeze", "Transpose", "Unsqueeze", "Where"),
    }
)


@dataclass(frozen=True)
class Equivalence:
    """A part of a recipe that changes nothing in its file.

    Attributes:
        key: a short name, as the documentation and the tests call it.
        plain: gives the fields as the plain recipe has them; empty if they are.
        reason: why the files are the same.
        source: where that is written.
    """

    key: str
    plain: Callable[[Recipe, Summary], Mapping[str, Any]]
    reason: str
    source: str


def _entropy(recipe: Recipe, _: Summary) -> dict[str, Any]:
    searched = {"num_bins", "num_quantized_bins", "symmetric", "moving_average", "averaging_constant"}
    options = {*recipe.options("calibration"), *(name for name in recipe.options() if name.startswith("Calib"))}
    plain = recipe.calibration == "Entropy" and searched.isdisjoint(options) and not any(map(_is_calib, options))
    return {"calibration": "MinMax"} if plain else {}


def _is_calib(name: str) -> bool:
    return name.startswith("Calib")


def _dynamic_channels(recipe: Recipe, model: Summary) -> dict[str, Any]:
    if recipe.method != "dynamic" or not recipe.per_channel:
        return {}
    others = op_types(recipe) & {*model.kinds, *BROUGHT_IN} - {"Conv", "Transpose"}
    # Gemm and MatMul that the preparation brings in come from MatMul; a graph with neither stays so.
    if not {"MatMul", "Gemm"} & set(model.kinds):
        others -= {"Gemm"}
    return {"per_channel": False} if not others and model.kinds["Conv"] and not model.nested else {}


def _conv_channels(recipe: Recipe, model: Summary) -> dict[str, Any]:
    if not static(recipe, "QOperator") or not recipe.per_channel or recipe.activation != "QUInt8" or recipe.extra_options:
        return {}
    kinds = {node.kind for node in target_nodes(recipe, model) if node.constants}
    wanted = recipe.weight in {"QUInt8", "QInt4", "QUInt4"} and kinds == {"Conv"} and not model.nested
    return {"weight": "QInt8"} if wanted else {}


def _absent_types(recipe: Recipe, model: Summary) -> dict[str, Any]:
    """Spell the op types as those that the tool looks at and the model may have."""
    if recipe.method not in {"dynamic", "static"}:
        return {}
    present = {*model.kinds, *model.nested} | BROUGHT_IN
    kinds = tuple(sorted(op_types(recipe) & present))
    return {"op_types": kinds} if kinds != recipe.op_types else {}


# Options whose value False is what onnxruntime does without them.
OFF = frozenset(
    {
        *("ActivationSymmetric", "ActivationRestrictedAsymmetric", "AddQDQPairToWeight", "CalibMovingAverage", "EnableSubgraph"),
        *("CalibTensorRangeSymmetric", "DedicatedQDQPair", "ForceQuantizeNoInputCheck", "QDQDisableWeightAdjustForInt32Bias"),
        *("QDQKeepRemovableActivations", "SmoothQuant", "UseQDQContribOps"),
    }
)


def _idle_options(recipe: Recipe, _: Summary) -> dict[str, Any]:
    options = recipe.options()
    idle = {name for name, value in options.items() if name in OFF and value is False}
    mode = recipe.format or recipe.method
    idle |= {name for name in options if name in OPTIONS and mode not in OPTIONS[name].of}
    return {"extra_options": spelled({name: value for name, value in options.items() if name not in idle})} if idle else {}


EQUIVALENCES = (
    Equivalence(
        "idle-options",
        _idle_options,
        "the extra options that differ have no effect on this model",
        "ONNXQuantizer, QDQQuantizer in onnxruntime/quantization",
    ),
    Equivalence(
        "entropy-is-minmax",
        _entropy,
        "Entropy with 128 bins, onnxruntime's own number, finds the ranges of MinMax",
        "EntropyCalibrater in onnxruntime/quantization/calibrate.py; microsoft/onnxruntime#9597",
    ),
    Equivalence(
        "dynamic-channels-of-conv",
        _dynamic_channels,
        "dynamic quantization gives the weights of Conv one scale, per channel or not",
        "ConvInteger in onnxruntime/quantization/operators/conv.py",
    ),
    Equivalence(
        "qoperator-channels-of-conv",
        _conv_channels,
        "per channel, the weights of QLinearConv are always QInt8",
        "QLinearConv in onnxruntime/quantization/operators/conv.py",
    ),
    Equivalence(
        "absent-op-types",
        _absent_types,
        "the op types that differ are not in the model, or the tool has no quantizer for them",
        f"op_types_to_quantize in {QUANTIZE}",
    ),
)


def twins(recipes: Sequence[Recipe], model: Summary) -> dict[str, tuple[str, Equivalence]]:
    """Find the recipes that give the file of an earlier one.

    Args:
        recipes: those that can exist, in the order in which they are made.
        model: what they are made of.

    Returns:
        By a recipe's name, the earlier one's name and why. What is not found here may still turn out the same when it is made
        (:mod:`harness.quantize.model.canonical`).
    """
    seen: dict[Recipe, tuple[str, tuple[Equivalence, ...]]] = {}
    found: dict[str, tuple[str, Equivalence]] = {}
    for recipe in recipes:
        plain, used = spell(recipe, model)
        earlier = seen.setdefault(plain, (recipe.name, used))
        if earlier[0] == recipe.name:
            continue
        differing = [each for each in used if each not in earlier[1]] or [each for each in earlier[1] if each not in used] or used
        if differing:
            found[recipe.name] = (earlier[0], differing[0])
    return found


def spell(recipe: Recipe, model: Summary) -> tuple[Recipe, tuple[Equivalence, ...]]:
    """Spell a recipe plainly: equal results give equal files.

    Returns:
        The recipe without a name, and the rules that changed it.
    """
    used = []
    for spelling in EQUIVALENCES:
        if changed := spelling.plain(recipe, model):
            recipe = recipe.model_copy(update=dict(changed))
            used.append(spelling)
    return recipe.model_copy(update={"name": ""}), tuple(used)
