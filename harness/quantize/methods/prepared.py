"""fp32 after preparation: what the quantized variants are made of, so that what preparation alone changes can be seen."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import onnx

from harness.quantize.method import Method, register
from harness.quantize.model import storage
from harness.study.variants import PreparedSpec

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.context import BuildContext
    from harness.quantize.recipe import Recipe


def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
    """Copy the prepared model."""
    made = context.prepared
    if made.is_large:
        storage.write(onnx.load(made.path, load_external_data=False), path, made.path.parent)
    else:
        shutil.copyfile(made.path, path)
    return context.notes(recipe)


METHOD = register(Method(spec=PreparedSpec, make=make))
