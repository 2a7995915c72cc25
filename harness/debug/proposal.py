"""A recipe as the [[variant]] of a study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.quantize.recipe import Recipe

LAST = "exclude_nodes"


def as_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML that a study can hold: what differs from a [[variant]]'s defaults, and what a reader asks first."""
    lines = ["[[variant]]", f"name = {_value(recipe.name)}", f"method = {_value(recipe.method)}"]
    spec = recipe.spec
    keys = dict.fromkeys((*spec.shown, *(key for key in spec.own_keys() if key != LAST)))
    for key in (*keys, LAST):
        if key not in spec.own_keys():
            continue
        value = recipe.options(_kind(key)) if key.endswith("_options") else getattr(recipe, key)
        plain = list(value) if isinstance(value, tuple) else value
        default = spec.model_fields[key].get_default(call_default_factory=True)
        if plain is not None and (plain != default or key in spec.shown):
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
