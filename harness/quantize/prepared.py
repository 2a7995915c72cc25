"""fp32 after preparation: what the quantized variants are made of, so that what preparation alone changes can be seen."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.recipe import Recipe
    from harness.quantize.workshop import Workshop


def make(recipe: Recipe, workshop: Workshop, path: Path) -> tuple[str, ...]:
    """Copy the prepared model."""
    shutil.copyfile(workshop.prepared.path, path)
    return workshop.notes(recipe)
