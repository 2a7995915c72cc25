"""The model that a recipe's tool is given, in an operator set that the tool need not raise itself: raised once, and verified."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import onnx

from harness.quantize.models import external_data, opset, validity
from harness.quantize.models.graph import opset_of
from harness.quantize.reasons import RecipeError, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.recipe import Recipe
    from harness.quantize.rewriting import Rewritten
    from harness.quantize.verify.original import Original


class Raising:
    """Raises models to newer operator sets; recipes that need the same share the file."""

    def __init__(self, folder: Path) -> None:
        """Raise nothing yet.

        Args:
            folder: of the models; external data of a large one lie there too.
        """
        self._folder = folder
        self._known: dict[tuple[Path, int, int], Rewritten | str] = {}

    def of(self, start: Rewritten, recipe: Recipe, original: Original | None) -> Rewritten:
        """Give a model in the operator set that a recipe needs: the model itself if it is there already.

        Args:
            start: the model that the recipe quantizes.
            recipe: how.
            original: what the raised model is held against; None verifies nothing.

        Raises:
            RecipeError: if it can't be raised, or computes something else then.
        """
        version = opset.target(recipe, start.proto, start.changes)
        if (opset_of(start.proto) or 0) >= version:
            return start
        stamped = opset.needed(recipe)
        key = (start.path, version, stamped)
        if key not in self._known:
            try:
                self._known[key] = self._raised(start, version, stamped, original)
            except RecipeError as exc:
                self._known[key] = str(exc)
        found = self._known[key]
        if isinstance(found, str):
            raise RecipeError(found)
        return found

    def _raised(self, start: Rewritten, version: int, stamped: int, original: Original | None) -> Rewritten:
        proto = opset.raised(start.proto, version, stamped)
        path = self._folder / f"raised-{len(self._known)}.onnx"
        onnx.save(proto, path)
        if external_data.locations(proto):
            # Of tensors beside the model onnx's checker wants to see the files.
            validity.check(path)
        if original is not None:
            self._verify(opset_of(start.proto) or 0, version, path, original)
        return dataclasses.replace(start, path=path, proto=proto)

    @staticmethod
    def _verify(old: int, new: int, path: Path, original: Original) -> None:
        """Hold a raised model against the original.

        Raises:
            RecipeError: if it computes something else, or can't be run.
        """
        try:
            found = original.difference(path)
            fault = f"changes what the model computes: {found.sentence}" if found else None
        except Exception as exc:  # noqa: BLE001 - onnxruntime's exceptions have no common base
            fault = f"gives a model that onnxruntime can't run: {reason_of(exc, [path.parent])}"
        if fault:
            message = f"raising opset {old} to {new} {fault}; {opset.way_out(new)}"
            raise RecipeError(message)
