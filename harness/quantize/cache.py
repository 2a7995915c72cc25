"""Variants kept from one build to the next, by the hash of everything that they are made of."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from pydantic import ValidationError

from harness import files
from harness.quantize.model import storage
from harness.quantize.model.versions import limits
from harness.quantize.recipe import Recipe, Variant
from harness.quantize.verify import trial_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.quantize.data.load import Samples
    from harness.quantize.model.model import SourceModel
    from harness.quantize.verify.original import Original

EDITION = 24


@dataclass(frozen=True)
class Cache:
    """A folder of finished variants: ``KEY.onnx`` and what is known of it, ``KEY.json``.

    Attributes:
        folder: made when something is kept.
        source: the float model.
        samples: calibration data by what recipes call them; None is the study's own.
        oldest_runtime: the version of onnxruntime that files are stamped for, if it is known.
        original: the float model, whose sample variants run on; notes of another sample are not taken over.
    """

    folder: Path
    source: SourceModel
    samples: Mapping[str | None, Samples]
    oldest_runtime: str | None = None
    original: Original | None = None

    def find(self, recipe: Recipe, path: Path) -> Variant | None:
        """Copy a kept variant to a path.

        Returns:
            The variant, or None if it is not kept or its file was changed.
        """
        kept = self._file(recipe)
        try:
            variant = Variant.model_validate_json(kept.with_suffix(".json").read_bytes())
            if not storage.is_whole(kept, variant.sha256, variant.data) or not self._is_of_sample(kept, variant):
                return None
        except (OSError, ValidationError):
            return None
        storage.copy(kept, path, variant.data)
        return variant.model_copy(update={"recipe": recipe, "path": path, "notes": (*self._about_data(recipe), *variant.notes)})

    def keep(self, variant: Variant) -> None:
        """Keep a variant that was made; a cache that can't be written keeps nothing."""
        # What is a copy of the source anyway is not kept.
        if variant.path is None or variant.recipe.is_copied:
            return
        kept = self._file(variant.recipe)
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self.folder) as beside:
                storage.copy(variant.path, Path(beside) / kept.name, variant.data)
                storage.move(Path(beside) / kept.name, kept, variant.data)
            # What is said of the data is of those of this build: the same samples may come from elsewhere in the next.
            about_data = self._about_data(variant.recipe)
            notes = tuple(note for note in variant.notes if note not in about_data)
            told = variant.model_copy(update={"path": None, "notes": notes})
            if _depends(variant):
                files.write_bytes(kept.with_suffix(".sample"), self._sample.encode())
            files.write_bytes(kept.with_suffix(".json"), told.model_dump_json().encode())

    def _is_of_sample(self, kept: Path, variant: Variant) -> bool:
        """Say whether the notes of a kept variant were found with this build's sample.

        Raises:
            OSError: if that is not known.
        """
        return not _depends(variant) or kept.with_suffix(".sample").read_text(encoding="ascii") == self._sample

    @property
    def _sample(self) -> str:
        return (self.original.digest if self.original else None) or ""

    def _about_data(self, recipe: Recipe) -> tuple[str, ...]:
        samples = self.samples.get(recipe.calibration_data) if recipe.is_calibrated else None
        return samples.notes if samples else ()

    def _file(self, recipe: Recipe) -> Path:
        return self.folder / f"{self._key(recipe)}.onnx"

    def _key(self, recipe: Recipe) -> str:
        samples = self.samples.get(recipe.calibration_data) if recipe.is_calibrated else None
        taken = limits(self.oldest_runtime)
        parts = {
            "recipe": recipe.model_dump(exclude={"name", "calibration_data"}),
            "source": self.source.sha256,
            "samples": samples.digest if samples else None,
            "stamped": taken.ir if taken else None,
            "versions": [onnxruntime.__version__, onnx.__version__, np.__version__, EDITION],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _depends(variant: Variant) -> bool:
    """Say whether some of a variant's notes are of the sample that it ran on: its recipe does not name that."""
    return any(map(trial_run.is_of_sample, variant.notes))
