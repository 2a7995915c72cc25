"""docs/real-models.md, from what the workers found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def render(results: Mapping[str, Mapping[str, Any]], versions: Mapping[str, str]) -> str:
    """Write the page."""
    return f"{versions} {len(results)}\n"
