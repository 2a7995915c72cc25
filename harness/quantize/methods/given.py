"""A model as it is: the study's own, or another file that somebody else quantized, such as an export after training with quantization."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from harness.errors import ModelError
from harness.quantize.method import Method, register
from harness.quantize.methods import float32
from harness.quantize.model import storage
from harness.quantize.model.model import read_model
from harness.quantize.reasons import RecipeError
from harness.study.variants import GivenSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.quantize.context import BuildContext
    from harness.quantize.model.model import TensorSpec
    from harness.quantize.recipe import Recipe


def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
    """Copy the model, which must take and give what the study's own does.

    Raises:
        RecipeError: if it can't be used, or is another model.
    """
    if recipe.model is None:
        return float32.make(recipe, context, path)
    try:
        found = read_model(Path(recipe.model))
    except ModelError as exc:
        raise RecipeError(str(exc)) from exc
    own = context.source
    for what, given, wanted in (("inputs", found.inputs, own.inputs), ("outputs", found.outputs, own.outputs)):
        if not _alike(given, wanted):
            shown, expected = (", ".join(map(str, specs)) for specs in (given, wanted))
            message = f"{recipe.model}: its {what} are {shown}, and those of {own.path.name} are {expected}: it is another model"
            raise RecipeError(message)
    if found.external_data:
        storage.write(onnx.load(found.path, load_external_data=False), path, found.path.parent)
    else:
        shutil.copyfile(found.path, path)
    return ()


def _alike(given: Sequence[TensorSpec], wanted: Sequence[TensorSpec]) -> bool:
    """Whether tensors have the same types and ranks, in the same order; inputs are fed by name, and sizes may be open in one of them."""
    return [(each.name, each.dtype, len(each.shape)) for each in given] == [
        (each.name, each.dtype, len(each.shape)) for each in wanted
    ]


METHOD = register(Method(spec=GivenSpec, make=make))
