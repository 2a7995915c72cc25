"""The registry of methods: a new one is a module with ``make``, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harness.quantize.methods import dynamic, float16, float32, given, nbits, prepared, static

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.quantize.context import Workshop
    from harness.quantize.recipe import Recipe


class Make(Protocol):
    """Makes a variant."""

    def __call__(self, recipe: Recipe, workshop: Workshop, path: Path, /) -> tuple[str, ...]:
        """Write the model to a path, and return notes; what can't be done is raised."""


METHODS: Mapping[str, Make] = {
    "fp32": float32.make,
    "prepared": prepared.make,
    "fp16": float16.make,
    "dynamic": dynamic.make,
    "static": static.make,
    "nbits": nbits.make,
    "given": given.make,
}
