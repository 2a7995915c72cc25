"""Which recipes a study asks for, and which of them a selector means."""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatchcase
from itertools import product
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from harness.errors import SelectionError, StudyError
from harness.quantize.recipe import Recipe, recipe_class, spelled
from harness.study import specs
from harness.study.specs import VariantSpec, spec_of
from harness.study.study import GIVEN
from harness.study.toml_file import nearest
from harness.study.variants import crossed_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.study.study import Study

REFERENCE = Recipe(name="fp32", method="fp32")
AS_GIVEN = Recipe(name=GIVEN, method="given")
SUFFIX_LIMIT = 40  # characters of op types or node names in a recipe's name


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
        recipe = _recipe(spec)
        if spec.name is None and recipe in recipes.values():
            continue
        if recipe.name in recipes and recipe != REFERENCE:
            message = f"study '{study.name}': two variants are called '{recipe.name}'; give one of them another name"
            raise StudyError(message)
        recipes[recipe.name] = recipe
    order = specs.methods()
    return tuple(sorted(recipes.values(), key=lambda r: (r != REFERENCE, order.index(r.method), r.format or "")))


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
        spec = spec_of(method)
        crossed = crossed_by(spec)
        for values in product(*(getattr(lists, name) for name in crossed)):
            fields = dict(zip(crossed.values(), values, strict=True))
            if "skip_steps" in spec.own_keys():
                fields["skip_steps"] = lists.skip_steps
            yield _recipe(spec.model_validate({"method": method, **fields}))


def _recipe(spec: VariantSpec) -> Recipe:
    """Make the recipe of a variant, and a name for it if it has none."""
    fields = spec.values()
    for key in {"extra_options", "calibration_options"} & set(fields):
        fields[key] = spelled(fields[key])
    if "skip_steps" in fields:
        fields["skip_steps"] = sorted(set(fields["skip_steps"]))
    recipe = recipe_class(spec.method).model_validate({"name": "-", "method": spec.method, **fields})
    return recipe.model_copy(update={"name": spec.name or _name(recipe, spec)})


def _name(recipe: Recipe, spec: VariantSpec) -> str:
    """Name a recipe, leaving out what is as usual."""
    parts = [recipe.method, *spec.words()]
    parts += ["pc" if recipe.per_channel else None, "rr" if recipe.reduce_range else None]
    parts.append(recipe.calibration if recipe.calibration != "MinMax" else None)
    if recipe.calibration_data is not None:
        parts += ["by", _short(PurePath(recipe.calibration_data).stem)]
    parts += [_options(recipe.options("calibration")), _short("+".join(recipe.op_types))]
    parts += [_options(recipe.options()), None if recipe.keep_io_types else "io16"]
    for word, names in (("only", recipe.nodes), ("without", (*recipe.exclude_op_types, *recipe.exclude_nodes))):
        parts += [word, _short("+".join(names))] if names else []
    parts += ["skip", _short("+".join(recipe.skip_steps))] if recipe.skip_steps else []
    if recipe.model is not None:
        parts.append(_short(PurePath(recipe.model).stem))
    parts.append(recipe.file_format if recipe.file_format != "onnx" else None)
    return "-".join(part for part in parts if part)


def _options(options: Mapping[str, Any]) -> str:
    """Spell options for a name: a switch that is on by its name alone."""
    return _short("+".join(key if value is True else f"{key}_{value}" for key, value in sorted(options.items())))


def _short(text: str) -> str:
    """Make text fit for a file name; a hash keeps it unique when letters are lost."""
    plain = re.sub(r"[^A-Za-z0-9._+]+", "-", text).strip("-")
    if len(plain) <= SUFFIX_LIMIT and plain == text:
        return plain
    return f"{plain[:SUFFIX_LIMIT].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:4]}".lstrip("-")
