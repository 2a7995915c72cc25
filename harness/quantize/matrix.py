"""Which recipes a study asks for, which of them can't exist, and which a selector means."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import PurePath
from typing import TYPE_CHECKING

from harness.errors import SelectionError, StudyError
from harness.quantize.recipe import SHORT, Recipe
from harness.study import GIVEN
from harness.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.study import Method, Study, VariantSpec

REFERENCE = Recipe(name="fp32", method="fp32")
AS_GIVEN = Recipe(name=GIVEN, method="given")
SUFFIX_LIMIT = 40  # characters of op types or node names in a recipe's name
ORDER: tuple[tuple[str, str | None], ...] = (
    ("fp32", None),
    ("fp16", None),
    ("dynamic", None),
    ("static", "QDQ"),
    ("static", "QOperator"),
)

# What onnxruntime 1.31.1 has a quantizer for; QDQ gives any other operator generic pairs of nodes.
DYNAMIC_OPS = frozenset({"Attention", "Conv", "EmbedLayerNormalization", "Gather", "Gemm", "LSTM", "MatMul", "Transpose"})
QOPERATOR_OPS = frozenset(
    {
        *("Add", "ArgMax", "AveragePool", "Clip", "Concat", "Conv", "EmbedLayerNormalization", "Flatten", "Gather", "Gemm"),
        *("GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Softmax"),
        *("Split", "Squeeze", "Transpose", "Unsqueeze", "Where"),
    }
)


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
)


def impossible(recipe: Recipe) -> str | None:
    """Say why a recipe can't exist.

    Returns:
        The rule and its source, or None if nothing is known against it.
    """
    return next((str(rule) for rule in RULES if rule.applies(recipe)), None)


def plan(study: Study) -> tuple[Recipe, ...]:
    """List the recipes of a study, possible or not.

    A model that is taken as given has that one recipe. Else ``fp32`` is always there and first: everything is compared with it. Then come fp16, dynamic, static QDQ, static QOperator;
    within each, the order of the study's lists, then its ``[[variant]]`` entries. A spelled-out variant without a name that
    repeats a crossed one adds nothing.

    Raises:
        StudyError: if two recipes have the same name.
    """
    if study.is_given:
        return (AS_GIVEN,)
    crossed = dict.fromkeys((REFERENCE, *_crossed(study)))
    recipes = {recipe.name: recipe for recipe in crossed}
    for spec in study.variant:
        recipe = _spelled_out(spec)
        if spec.name is None and recipe in recipes.values():
            continue
        if recipe.name in recipes and recipe != REFERENCE:
            message = f"study '{study.name}': two variants are called '{recipe.name}'; give one of them another name"
            raise StudyError(message)
        recipes[recipe.name] = recipe
    return tuple(sorted(recipes.values(), key=lambda r: (r != REFERENCE, ORDER.index((r.method, r.format)))))


def select(recipes: Sequence[Recipe], globs: Sequence[str]) -> tuple[Recipe, ...]:
    """Keep the recipes whose names match one of the globs, and fp32.

    Args:
        recipes: all of them.
        globs: as in a shell, each perhaps a list with commas; none keeps everything.

    Raises:
        SelectionError: if a glob matches nothing.
    """
    wanted = [part.strip() for glob in globs for part in glob.split(",") if part.strip()]
    names = [recipe.name for recipe in recipes]
    for glob in wanted:
        if not any(fnmatchcase(name, glob) for name in names):
            message = f"no variant matches '{glob}'; {nearest(glob.strip('*'), names)}"
            raise SelectionError(message)
    return tuple(r for r in recipes if not wanted or r == REFERENCE or any(fnmatchcase(r.name, glob) for glob in wanted))


def _crossed(study: Study) -> Iterator[Recipe]:
    """Cross the lists of ``[variants]``."""
    lists = study.variants
    for method in lists.methods:
        if method in {"fp32", "fp16"}:
            yield _recipe(method)
        elif method == "dynamic":
            for weight, per_channel, ops in product(lists.weights, lists.per_channel, lists.op_types):
                yield _recipe(method, weight=weight, per_channel=per_channel, op_types=tuple(ops))
        else:
            for form, activation, weight, per_channel, calibration, ops in product(
                lists.formats, lists.activations, lists.weights, lists.per_channel, lists.calibrations, lists.op_types
            ):
                yield _recipe(
                    method,
                    format=form,
                    activation=activation,
                    weight=weight,
                    per_channel=per_channel,
                    calibration=calibration,
                    op_types=tuple(ops),
                )


def _spelled_out(spec: VariantSpec) -> Recipe:
    """Make the recipe of a ``[[variant]]``, without the fields that mean nothing to its method."""
    fields = spec.model_dump(exclude={"name", "method"})
    if spec.method in {"fp32", "fp16", "given"}:
        fields = {}
    elif spec.method == "dynamic":
        for key in ("format", "activation", "calibration", "calibration_data"):
            del fields[key]
    return _recipe(spec.method, name=spec.name, **fields)


def _recipe(method: Method, *, name: str | None = None, **fields: object) -> Recipe:
    """Make a recipe, and a name for it if it has none."""
    recipe = Recipe.model_validate({"name": "-", "method": method, **fields})
    return recipe.model_copy(update={"name": name or _name(recipe)})


def _name(recipe: Recipe) -> str:
    """Spell a recipe, leaving out what is as usual."""
    types = "".join(SHORT[kind] for kind in (recipe.activation, recipe.weight) if kind)
    parts = [recipe.method, recipe.format, types]
    if recipe.per_channel:
        parts.append("pc")
    if recipe.reduce_range:
        parts.append("rr")
    if recipe.calibration != "MinMax":
        parts.append(recipe.calibration)
    if recipe.calibration_data is not None:
        parts += ["by", _short(PurePath(recipe.calibration_data).stem)]
    parts.append(_short("+".join(recipe.op_types)))
    if recipe.exclude_nodes:
        parts += ["without", _short("+".join(recipe.exclude_nodes))]
    return "-".join(part for part in parts if part)


def _short(text: str) -> str:
    """Make text fit for a file name; a hash keeps it unique when letters are lost."""
    plain = re.sub(r"[^A-Za-z0-9._+]+", "-", text).strip("-")
    if len(plain) <= SUFFIX_LIMIT and plain == text:
        return plain
    return f"{plain[:SUFFIX_LIMIT].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:4]}".lstrip("-")
