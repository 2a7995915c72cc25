"""The reference: the source model as it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import onnx

from harness.quantize.method import Method, register
from harness.quantize.model import storage
from harness.study.variants import Float32Spec

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.context import BuildContext
    from harness.quantize.recipe import Recipe


def make(_: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
    """Copy the source's bytes; a model with external data is written as one file, or two if it is large."""
    source = context.source
    if not source.external_data:
        shutil.copyfile(source.path, path)
        return ()
    # Not the context's copy, where nodes without a name were given one.
    model = onnx.load(source.path, load_external_data=False)
    storage.write(model, path, source.path.parent)
    if source.is_large:
        return ("the external data were put into one file, which is named by its sha256",)
    return ("the external data were put into the model file",)


METHOD = register(Method(spec=Float32Spec, make=make))
