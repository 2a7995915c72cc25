"""What the recipes of one build share: the source, the prepared model and the calibrated ranges, each made once when needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from harness.quantize.calibration import calibrate
from harness.quantize.prepare import Prepared, prepare
from harness.quantize.reasons import RecipeError, reason_of
from harness.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.quantize.data import Samples
    from harness.quantize.model import SourceModel
    from harness.quantize.recipe import Recipe


@dataclass(frozen=True)
class Workshop:
    """The shared things of one build.

    Attributes:
        source: the float model.
        samples: calibration data by what recipes call them; None is the study's own; empty if no recipe needs them.
        folder: a temporary one.
        op_types: every type that a static recipe names; one calibration covers them all.
    """

    source: SourceModel
    samples: Mapping[str | None, Samples]
    folder: Path
    op_types: tuple[str, ...] = ()
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
                self._ranges[key] = calibrate(self.prepared.path, feeds, method, folder, op_types=self.op_types)
            except Exception as exc:  # noqa: BLE001 - kept, so that not every recipe waits for the same failure
                self._ranges[key] = f"calibration by {method} failed: {reason_of(exc, [self.folder])}"
        found = self._ranges[key]
        if isinstance(found, str):
            raise RecipeError(found)
        return found

    def chosen(self, recipe: Recipe) -> list[str]:
        """List the only nodes of the prepared model that a recipe quantizes; empty means all.

        Raises:
            RecipeError: if a glob matches none; it would be ignored without a word.
        """
        return self._named("nodes", recipe.nodes)

    def excluded(self, recipe: Recipe) -> list[str]:
        """List the nodes of the prepared model that a recipe's globs exclude.

        Raises:
            RecipeError: if a glob matches none; it would be ignored without a word.
        """
        return self._named("exclude_nodes", recipe.exclude_nodes)

    def _named(self, key: str, globs: Sequence[str]) -> list[str]:
        names = [node.name for node in self.prepared.proto.graph.node]
        for glob in globs:
            if not any(name == glob or fnmatchcase(name, glob) for name in names):
                hint = nearest(glob.strip("*"), names)
                shown = hint if hint.startswith("did") else f"the first are {', '.join(names[:5])}"
                message = f"{key}: '{glob}' matches no node of the prepared model; {shown}"
                raise RecipeError(message)
        return [name for name in names if any(name == glob or fnmatchcase(name, glob) for glob in globs)]

    def notes(self, recipe: Recipe) -> tuple[str, ...]:
        """Tell how the model was prepared, and which of the recipe's op types it does not have."""
        have = {node.op_type for node in self.prepared.proto.graph.node}
        absent = [kind for kind in recipe.op_types if kind not in have]
        notes = [f"the prepared model has no {', '.join(absent)}"] if absent else []
        if "MatMul" in absent and "Gemm" in have:
            notes = [f"{notes[0]}; the preparation joins MatMul and Add into Gemm"]
        return (*self.prepared.notes, *notes)
