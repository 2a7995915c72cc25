"""The model that a recipe's tool is given: the prepared one, rewritten by the preparation steps that find something in it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import load_tensors_data

from harness.quantize.model import storage
from harness.quantize.model.graph import fix_initializers
from harness.quantize.model.model import read_model
from harness.quantize.recipe import Recipe
from harness.quantize.step import Changes, Decision
from harness.quantize.steps.registry import STEPS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.model.model import SourceModel
    from harness.quantize.prepare import Prepared

    Chain = tuple[Hashable, ...]

# The model is prepared once, for all recipes that need that.
BEFORE = Recipe(name="before preparation", method="dynamic")


@dataclass(frozen=True)
class Rewritten:
    """A model that is quantized.

    Attributes:
        path: its file; the tensors of a large model lie beside it.
        proto: its content, not to be changed; without tensors if it is large.
        is_large: whether the tools must be told to keep tensors beside the model.
        changes: what the steps did; nothing where the file is the prepared model's own.
    """

    path: Path
    proto: ModelProto
    is_large: bool
    changes: Changes = field(default_factory=Changes)


class Rewriting:
    """Rewrites models, each once: recipes for which the steps do the same share the file."""

    def __init__(self, folder: Path) -> None:
        """Rewrite nothing yet.

        Args:
            folder: where rewritten models are written.
        """
        self._folder = folder
        self._known: dict[tuple[Path, Recipe], Rewritten] = {}
        self._models: dict[Chain, Rewritten] = {}

    def of(self, prepared: Prepared, recipe: Recipe) -> Rewritten:
        """Give the model that a recipe quantizes; where no step finds anything, the prepared model itself."""
        key = (prepared.path, recipe)
        if key not in self._known:
            self._known[key] = self._rewritten(prepared, recipe)
        return self._known[key]

    def _rewritten(self, prepared: Prepared, recipe: Recipe) -> Rewritten:
        done: Chain = (prepared.path,)
        found = Rewritten(prepared.path, prepared.proto, prepared.is_large)
        # fp16 is made of the user's model; whoever asks for the prepared one looks at its nodes.
        for step in STEPS if recipe.is_prepared else ():
            if step.on != "prepared" or step.find is None or step.rewrite is None or not step.applies(recipe):
                continue
            if wanted := tuple(step.find(found.proto, recipe)):
                done = (*done, step.key, wanted)
                if done not in self._models:
                    model = onnx.load(found.path)
                    changes = found.changes.then(step.rewrite(model, wanted))
                    path = self._folder / f"rewritten-{len(self._models)}.onnx"
                    storage.write(model, path)
                    proto = onnx.load(path, load_external_data=False) if found.is_large else model
                    self._models[done] = Rewritten(path, proto, found.is_large, changes)
                found = self._models[done]
        return found


def needs_conversion(source: SourceModel) -> bool:
    """Say whether one of the steps that come before the preparation finds something."""
    return any(step.find(source.proto, BEFORE) for step in STEPS if step.on == "source" and step.find is not None)


def converted(source: SourceModel, folder: Path) -> tuple[SourceModel, Changes]:
    """Apply the steps that come before the preparation.

    Args:
        source: the user's model.
        folder: where the converted model is written.

    Returns:
        The model that is prepared, and what was done.

    Raises:
        RecipeError: if it can't be converted.
    """
    model = source.content()
    fix_initializers(model)
    changes = convert(model, BEFORE)
    path = folder / "converted.onnx"
    storage.write(model, path)
    return read_model(path), changes


def skips_conversion(recipe: Recipe) -> bool:
    """Say whether a recipe leaves out the steps that come before the preparation."""
    return any(step.key in recipe.skip_steps for step in STEPS if step.on == "source")


def convert(model: ModelProto, recipe: Recipe) -> Changes:
    """Apply, in place, the steps that work on a user's model, and for ``fp16`` those that work on a prepared one."""
    changes = Changes()
    for step in STEPS:
        if step.find is None or step.rewrite is None or not step.applies(recipe):
            continue
        if (step.on == "source" or not recipe.is_prepared) and (wanted := tuple(step.find(model, recipe))):
            changes = changes.then(step.rewrite(model, wanted))
    return changes


def decide(model: ModelProto, recipe: Recipe, ranges: Path | None) -> Decision:
    """Ask the steps what a recipe's tool must leave as it is.

    Args:
        model: the one that is quantized.
        recipe: how.
        ranges: the file of the calibrated ranges, if there are any.
    """
    deciding = [step.decide for step in STEPS if step.decide is not None and step.applies(recipe)]
    if not deciding:
        return Decision()
    known = None if ranges is None else read_ranges(ranges)
    return reduce(Decision.__or__, (each(model, recipe, known) for each in deciding), Decision())


@contextmanager
def patched(recipe: Recipe) -> Iterator[list[str]]:
    """Let the steps replace parts of a recipe's tool while it works; only for one thread at a time.

    Yields:
        Notes, which are complete when the tool is done and the steps have put back what they replaced.
    """
    notes: list[str] = []
    with ExitStack() as stack:
        for step in STEPS:
            if step.patch is not None and step.applies(recipe):
                stack.enter_context(step.patch(recipe, notes))
        yield notes


def read_ranges(path: Path) -> dict[str, tuple[float, float]]:
    """Read the smallest and the largest value of each tensor from a file of ranges."""
    found = ((name, data.range_value) for name, data in load_tensors_data(path).items())
    # Some calibration methods keep numbers, others arrays of one.
    return {name: (np.asarray(least).item(), np.asarray(most).item()) for name, (least, most) in found}
