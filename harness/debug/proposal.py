"""A recipe as the [[variant]] of a study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.quantize.matrix import FIELDS
from harness.study.variants import VariantSpec

if TYPE_CHECKING:
    from harness.quantize.recipe import Recipe

LAST = "exclude_nodes"
# Said even where they are as usual: what a reader asks first.
ALWAYS = {"static": ("format", "activation", "weight"), "dynamic": ("weight",), "nbits": ("bits", "block_size")}


def as_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML that a study can hold: what differs from a [[variant]]'s defaults."""
    lines = ["[[variant]]", f"name = {_value(recipe.name)}", f"method = {_value(recipe.method)}"]
    known = [key for key in VariantSpec.model_fields if key in FIELDS[recipe.method] and key != LAST]
    for key in (*known, LAST):
        value = recipe.options(_kind(key)) if key.endswith("_options") else getattr(recipe, key)
        plain = list(value) if isinstance(value, tuple) else value
        default = VariantSpec.model_fields[key].get_default(call_default_factory=True)
        if plain is not None and (plain != default or key in ALWAYS.get(recipe.method, ())):
            lines.append(f"{key} = {_value(plain)}")
    return "\n".join(lines)


def _kind(key: str) -> Any:  # noqa: ANN401 - one of two words
    return key.removesuffix("_options")


def _value(value: Any) -> str:  # noqa: ANN401 - whatever TOML can say
    """Write a value; text as JSON does, which is TOML's way but for DEL."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(key)} = {_value(each)}" for key, each in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
