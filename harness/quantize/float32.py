"""The reference: the source model as it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.recipe import Recipe
    from harness.quantize.workshop import Workshop


def make(_: Recipe, workshop: Workshop, path: Path) -> tuple[str, ...]:
    """Copy the source's bytes; a model with external data is written as one file."""
    if not workshop.source.external_data:
        shutil.copyfile(workshop.source.path, path)
        return ()
    onnx.save(workshop.source.proto, path)
    return ("the external data were put into the model file",)
