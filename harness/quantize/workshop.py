"""What the recipes of one build share: the source, the prepared model and the calibrated ranges, each made once when needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from harness.quantize import unfit
from harness.quantize.calibration import calibrate
from harness.quantize.names import Graphs
from harness.quantize.prepare import Prepared, prepare
from harness.quantize.reasons import RecipeError, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.quantize.data import Samples
    from harness.quantize.model import SourceModel
    from harness.quantize.recipe import Preparation, Recipe

PREPARED_METHODS = frozenset({"prepared", "dynamic", "static", "nbits"})


@dataclass(frozen=True)
class Workshop:
    """The shared things of one build.

    Attributes:
        source: the float model.
        samples: calibration data by what recipes call them; None is the study's own; empty if no recipe needs them.
        folder: a temporary one.
        op_types: every type that a static recipe names; one calibration covers them all.
        oldest_runtime: the oldest version of onnxruntime that is to load what is made, if it is known.
    """

    source: SourceModel
    samples: Mapping[str | None, Samples]
    folder: Path
    op_types: tuple[str, ...] = ()
    oldest_runtime: str | None = None
    _ranges: dict[tuple[str, str | None], Path | str] = field(default_factory=dict, repr=False)

    @cached_property
    def prepared(self) -> Prepared:
        """The model that is quantized."""
        return prepare(self.source, self.folder)

    def ranges(self, method: str, source: str | None = None) -> Path:
        """Return the file of ranges of a calibration method, over the study's data or others.

        Raises:
            RecipeError: if there are no data, or the calibration failed, now or for an earlier recipe.
        """
        if source not in self.samples:
            message = "no calibration data were given"
            raise RecipeError(message)
        key = (method, source)
        if key not in self._ranges:
            try:
                folder = self.folder / f"ranges-{len(self._ranges)}"
                folder.mkdir()
                feeds = self.samples[source].feeds
                self._ranges[key] = calibrate(
                    self.prepared.path, feeds, method, folder, op_types=self.op_types, large=self.prepared.is_large
                )
            except Exception as exc:  # noqa: BLE001 - kept, so that not every recipe waits for the same failure
                self._ranges[key] = f"calibration by {method} failed: {reason_of(exc, [self.folder])}"
        found = self._ranges[key]
        if isinstance(found, str):
            raise RecipeError(found)
        return found

    def chosen(self, recipe: Recipe) -> list[str]:
        """List the only nodes of the prepared model that a recipe quantizes; empty means all.

        Raises:
            RecipeError: if a name or glob matches none; it would be ignored without a word.
        """
        return list(self._graphs.in_prepared("nodes", recipe.nodes).names) if recipe.nodes else []

    def excluded(self, recipe: Recipe) -> list[str]:
        """List the nodes of the prepared model that a recipe excludes, by their names there or in the user's model, and those that its tool would break.

        Raises:
            RecipeError: if a name or glob matches none.
        """
        asked = self._graphs.in_prepared("exclude_nodes", recipe.exclude_nodes).names if recipe.exclude_nodes else ()
        return [*asked, *unfit.nodes(recipe, self.prepared.proto)]

    def excluded_of_source(self, recipe: Recipe) -> list[str]:
        """List the nodes of the user's model that a recipe excludes: ``fp16`` works on that one.

        Raises:
            RecipeError: if a name or glob matches none.
        """
        return list(self._graphs.in_source("exclude_nodes", recipe.exclude_nodes).names) if recipe.exclude_nodes else []

    def preparation(self, recipe: Recipe) -> Preparation | None:
        """Tell how far the preparation went of the model that a recipe works on, if it was prepared for it."""
        # Only what was looked at: a recipe that failed before needs none.
        used = recipe.method in PREPARED_METHODS and "prepared" in vars(self)
        return self.prepared.preparation if used else None

    @cached_property
    def _graphs(self) -> Graphs:
        return Graphs(self.source.proto.graph, self.prepared.proto.graph)

    def notes(self, recipe: Recipe) -> tuple[str, ...]:
        """Tell how the model was prepared, and which of the recipe's op types it does not have."""
        have = {node.op_type for node in self.prepared.proto.graph.node}
        absent = [kind for kind in recipe.op_types if kind not in have]
        notes = [f"the prepared model has no {', '.join(absent)}"] if absent else []
        if "MatMul" in absent and "Gemm" in have:
            notes = [f"{notes[0]}; the preparation joins MatMul and Add into Gemm"]
        for key, globs in (("nodes", recipe.nodes), ("exclude_nodes", recipe.exclude_nodes)):
            notes += self._graphs.in_prepared(key, globs).notes
        return (*self.prepared.notes, *notes, *unfit.notes(recipe, self.prepared.proto))
