"""What the recipes of one build share: the source, the prepared model and the calibrated ranges, each made once when needed."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

import onnx

from harness.quantize.calibration.calibration import Calibration
from harness.quantize.calibration.find import find
from harness.quantize.model.model import SourceModel, read_model
from harness.quantize.model.names import Graphs
from harness.quantize.planning import unsupported_nodes
from harness.quantize.prepare import Prepared, prepare
from harness.quantize.raising import Raising
from harness.quantize.reasons import RecipeError, reason_of
from harness.quantize.rewriting import Rewriting, converted, decide, needs_conversion, skips_conversion
from harness.quantize.step import Changes
from harness.quantize.verify import conversion
from harness.quantize.verify.original import Original
from harness.quantize.worker_context import WorkerContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.quantize.calibration.ranges import Ranges
    from harness.quantize.data.load import Samples
    from harness.quantize.recipe import Preparation, Recipe
    from harness.quantize.rewriting import Rewritten
    from harness.quantize.step import Decision
    from harness.quantize.verify.sample import Sample


class BuildContext:
    """The shared things of one build.

    Attributes:
        samples: calibration data by what recipes call them; None is the study's own; empty if no recipe needs them.
        folder: a temporary one.
        op_types: every type that a static recipe names; one calibration covers them all.
        oldest_runtime: the oldest version of onnxruntime that is to load what is made, if it is known.
    """

    def __init__(
        self,
        source: SourceModel | Path,
        samples: Mapping[str | None, Samples],
        folder: Path,
        op_types: tuple[str, ...] = (),
        oldest_runtime: str | None = None,
        kept: Ranges | None = None,
        original: Original | None = None,
    ) -> None:
        """Make nothing yet.

        Args:
            source: the float model, or its file, which is opened when it is needed.
            samples: see the attribute; likewise the next three.
            folder: where everything goes.
            op_types: of all recipes.
            oldest_runtime: its version.
            kept: ranges of earlier builds.
            original: the float model on one sample, to verify preparation with; without, on a calibration sample or a random one.
        """
        self.samples = samples
        self.folder = folder
        self.op_types = op_types
        self.oldest_runtime = oldest_runtime
        self._source = source
        self._kept = kept
        self._original = original
        self._compared: Original | None = None  # what the prepared model was compared with
        self._ranges: dict[tuple[Path, str | None, Calibration], Path | str] = {}
        self._told: dict[Recipe, Path | str] = {}
        self._notes: dict[str | None, tuple[str, ...]] = {name: found.notes for name, found in samples.items()}
        self._rewriting = Rewriting(folder)
        self._raising = Raising(folder)
        self._left: dict[Recipe, tuple[str, ...]] = {}

    @cached_property
    def source(self) -> SourceModel:
        """The float model."""
        return self._source if isinstance(self._source, SourceModel) else read_model(self._source)

    @cached_property
    def prepared(self) -> Prepared:
        """The model that is quantized, before preparation steps rewrite it for a recipe."""
        source, changes = converted(self.source, self.folder) if self.converts else (self.source, Changes())
        if source is not self.source:
            conversion.verify(self.original, source.path)
        # What the preparation makes of a converted model is compared with that one: it rounds otherwise than the user's.
        original = self.original
        if original and source is not self.source:
            original = dataclasses.replace(original, source=source)
        self._compared = original
        return dataclasses.replace(prepare(source, self.folder, original), conversion=changes.notes)

    @cached_property
    def unconverted(self) -> Prepared:
        """The same for recipes that skip the steps before the preparation."""
        folder = self.folder / "unconverted"
        folder.mkdir(exist_ok=True)
        return prepare(self.source, folder, self.original)

    @cached_property
    def converts(self) -> bool:
        """Whether there is something for the steps before the preparation to do."""
        return needs_conversion(self.source)

    def prepared_for(self, recipe: Recipe) -> Prepared:
        """Give the prepared model of a recipe."""
        return self.unconverted if skips_conversion(recipe) and self.converts else self.prepared

    @cached_property
    def original(self) -> Original | None:
        """The float model on one sample, with which what is made of it before quantization is compared; None verifies nothing."""
        return self._original or Original(self.source, samples=tuple(self.samples.values()))

    @cached_property
    def sample(self) -> Sample | None:
        """What each variant runs on once; None runs none."""
        return self.original.sample if self.original else None

    def model(self, recipe: Recipe) -> Rewritten:
        """Give the model that a recipe quantizes: the prepared one, as its preparation steps rewrite it."""
        return self._rewriting.of(self.prepared_for(recipe), recipe)

    def raised(self, recipe: Recipe) -> Rewritten:
        """Give that model in the operator set that the recipe needs, which is what is calibrated and quantized.

        Raises:
            RecipeError: if it can't be raised without another meaning.
        """
        start = self.model(recipe)
        original = self._compared if self.prepared_for(recipe) is self.prepared else self.original
        return self._raising.of(start, recipe, original)

    def decision(self, recipe: Recipe, ranges: Path | None = None) -> Decision:
        """Tell what a recipe's tool must leave as it is in that model, by the ranges that were calibrated, if there are any."""
        return decide(self.model(recipe).proto, recipe, ranges)

    def calibrate(self, recipes: Iterable[Recipe]) -> None:
        """Find the ranges of static recipes: for each model and data all calibration methods at once. What fails is kept as a reason."""
        groups: dict[tuple[Path, str | None], dict[Calibration, None]] = {}
        for recipe in recipes:
            if recipe in self._told or recipe.calibration_data not in self.samples:
                continue
            try:
                key = self._key(recipe)
            except Exception as exc:  # noqa: BLE001 - of this recipe alone
                self._told[recipe] = reason_of(exc, [self.folder])
            else:
                if key not in self._ranges:
                    groups.setdefault(key[:2], {})[key[2]] = None
        for (model, source), wanted in groups.items():
            for calibration, found in find(
                model, self.samples[source], list(wanted), self.folder, self.op_types, self._kept
            ).items():
                self._ranges[model, source, calibration] = found

    def ranges(self, recipe: Recipe) -> Path:
        """Return the file of a static recipe's ranges.

        Raises:
            RecipeError: if there are no data, or the calibration failed, now or for an earlier recipe.
        """
        self.calibrate([recipe])
        found = self._known(recipe)
        if found is None:
            message = "no calibration data were given"
            raise RecipeError(message)
        if isinstance(found, str):
            raise RecipeError(found)
        return found

    def chosen(self, recipe: Recipe) -> list[str]:
        """List the only nodes of its model that a recipe quantizes; empty means all.

        Raises:
            RecipeError: if a name or glob matches none; it would be ignored without a word.
        """
        names = self._graphs.in_prepared("nodes", recipe.nodes).names if recipe.nodes else ()
        return [self.model(recipe).changes.node(name) for name in names]

    def excluded(self, recipe: Recipe) -> list[str]:
        """List the nodes of its model that a recipe excludes, by their names there or in the user's model, and those that its tool would break.

        Raises:
            RecipeError: if a name or glob matches none.
        """
        asked = self._graphs.in_prepared("exclude_nodes", recipe.exclude_nodes).names if recipe.exclude_nodes else ()
        model = self.model(recipe)
        return [
            *(model.changes.node(name) for name in asked),
            *unsupported_nodes.nodes(recipe, model.proto),
            *self._left.get(recipe, ()),
        ]

    def leave(self, recipe: Recipe, names: tuple[str, ...]) -> None:
        """Leave these nodes of its model in float as well, because the recipe's tool fails with them."""
        self._left[recipe] = names

    def excluded_of_source(self, recipe: Recipe) -> list[str]:
        """List the nodes of the user's model that a recipe excludes: ``fp16`` works on that one.

        Raises:
            RecipeError: if a name or glob matches none.
        """
        return list(self._graphs.in_source("exclude_nodes", recipe.exclude_nodes).names) if recipe.exclude_nodes else []

    def preparation(self, recipe: Recipe) -> Preparation | None:
        """Tell how far the preparation went of the model that a recipe works on, if it was prepared for it."""
        # Only what was looked at: a recipe that failed before needs none.
        used = recipe.is_prepared and "prepared" in vars(self)
        return self.prepared.preparation if used else None

    @cached_property
    def _graphs(self) -> Graphs:
        return Graphs(self.source.proto.graph, self.prepared.proto.graph)

    def notes(self, recipe: Recipe) -> tuple[str, ...]:
        """Tell of the calibration data, how the model was prepared, and which of the recipe's op types it does not have."""
        about_data = self._notes.get(recipe.calibration_data, ()) if recipe.has_ranges else ()
        have = {node.op_type for node in self.prepared.proto.graph.node}
        absent = [kind for kind in recipe.op_types if kind not in have]
        notes = [f"the prepared model has no {', '.join(absent)}"] if absent else []
        if "MatMul" in absent and "Gemm" in have:
            notes = [f"{notes[0]}; the preparation joins MatMul and Add into Gemm"]
        for key, globs in (("nodes", recipe.nodes), ("exclude_nodes", recipe.exclude_nodes)):
            notes += self._graphs.in_prepared(key, globs).notes if globs else ()
        return (
            *about_data,
            *self.prepared_for(recipe).notes,
            *self.model(recipe).changes.notes,
            *notes,
            *unsupported_nodes.notes(recipe, self.prepared.proto),
        )

    def for_worker(self, recipe: Recipe) -> WorkerContext:
        """Describe what another process needs to make a recipe.

        Raises:
            RecipeError: if the recipe's model can't be raised to the operator set that it needs: it is verified here, not there.
        """
        if recipe.is_prepared:
            self.raised(recipe)
        return WorkerContext(
            source=self.source.path.resolve(),
            folder=self.folder,
            prepared=dataclasses.replace(self.prepared_for(recipe), proto=onnx.ModelProto()),
            oldest_runtime=self.oldest_runtime,
            ranges=self._known(recipe) if recipe.has_ranges else None,
            notes=self._notes.get(recipe.calibration_data, ()),
            sample=self.sample.file(self.folder) if self.sample else None,
        )

    def given(self, recipe: Recipe, ranges: Path | str | None, notes: tuple[str, ...]) -> None:
        """Take a recipe's ranges, and the notes on its data, from another process."""
        self._notes[recipe.calibration_data] = notes
        if ranges is not None:
            self._told[recipe] = ranges

    def _known(self, recipe: Recipe) -> Path | str | None:
        """The ranges of a recipe that was calibrated, or why there are none; None if there are no data."""
        if recipe in self._told:
            return self._told[recipe]
        return self._ranges[self._key(recipe)] if recipe.calibration_data in self.samples else None

    def _key(self, recipe: Recipe) -> tuple[Path, str | None, Calibration]:
        return self.raised(recipe).path, recipe.calibration_data, Calibration.of(recipe)
