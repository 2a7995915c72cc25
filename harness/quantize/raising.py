"""Raises the model that a recipe's tool is given to the operator set that the tool needs: once, and verified."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import onnx

from harness.quantize import opset
from harness.quantize.model import external_data, validity
from harness.quantize.model.graph import opset_of
from harness.quantize.reasons import RecipeError, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.recipe import Recipe
    from harness.quantize.rewriting import Rewritten
    from harness.quantize.verify.original import Original


ROUNDED = 30.0  # dB by which another rounding of constants leaves a model at least the same


class Raising:
    """Raises models to newer operator sets; recipes that need the same share the file."""

    def __init__(self, folder: Path) -> None:
        """Raise nothing yet.

        Args:
            folder: of the models; external data of a large one lie there too.
        """
        self._folder = folder
        self._known: dict[tuple[Path, int, int], Rewritten | str] = {}
        self._changed: dict[Path, str | None] = {}

    def of(self, start: Rewritten, recipe: Recipe, original: Original | None) -> Rewritten:
        """Give a model in the operator set that a recipe needs: the model itself if it is there already.

        Args:
            start: the model that the recipe quantizes.
            recipe: how.
            original: what the raised model is held against; None verifies nothing.

        Raises:
            RecipeError: if preparation steps changed what the model computes, or it can't be raised, or computes something else
                then.
        """
        if original is not None and start.changes.notes:
            self._verify_steps(start, original)
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

    def _verify_steps(self, start: Rewritten, original: Original) -> None:
        """Hold a model that preparation steps have rewritten against the original: they may round otherwise, but no more.

        Raises:
            RecipeError: if it computes something else, or can't be run.
        """
        if start.path not in self._changed:
            fault = _fault(start.path, original, ROUNDED)
            notes = "; ".join(start.changes.notes)
            self._changed[start.path] = (
                fault and f"after the preparation steps, {fault}; switch steps off with skip_steps ({notes})"
            )
        if message := self._changed[start.path]:
            raise RecipeError(message)

    def _raised(self, start: Rewritten, version: int, stamped: int, original: Original | None) -> Rewritten:
        proto = opset.raised(start.proto, version, stamped)
        path = self._folder / f"raised-{len(self._known)}.onnx"
        onnx.save(proto, path)
        if external_data.locations(proto):
            # Of tensors beside the model onnx's checker wants to see the files.
            validity.check(path)
        least = ROUNDED if start.changes.notes else math.inf
        if original is not None and (fault := _fault(path, original, least)):
            message = f"after opset {opset_of(start.proto)} was raised to {version}, {fault}; {opset.way_out(version)}"
            raise RecipeError(message)
        return dataclasses.replace(start, path=path, proto=proto)


def _fault(path: Path, original: Original, least: float) -> str | None:
    """Say what is wrong with a model that was made of the original; an SQNR of ``least`` dB and more is not."""
    try:
        found = original.difference(path)
    except Exception as exc:  # noqa: BLE001 - onnxruntime's exceptions have no common base
        return f"onnxruntime can't run the model: {reason_of(exc, [path.parent])}"
    if found is None or (found.sqnr_db is not None and found.sqnr_db >= least):
        return None
    return f"the model computes something else: {found.sentence}"
