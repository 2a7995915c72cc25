"""Variants kept from one build to the next, by the hash of everything that they are made of."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from pydantic import ValidationError

from harness.quantize.recipe import Recipe, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.quantize.data import Samples
    from harness.quantize.model import SourceModel

EDITION = 1  # raised when this package makes other files of the same recipe


@dataclass(frozen=True)
class Cache:
    """A folder of finished variants: ``KEY.onnx`` and what is known of it, ``KEY.json``.

    Attributes:
        folder: made when something is kept.
        source: the float model.
        samples: calibration data by what recipes call them; None is the study's own.
    """

    folder: Path
    source: SourceModel
    samples: Mapping[str | None, Samples]

    def find(self, recipe: Recipe, path: Path) -> Variant | None:
        """Copy a kept variant to a path.

        Returns:
            The variant, or None if it is not kept or its file was changed.
        """
        kept = self._file(recipe)
        try:
            variant = Variant.model_validate_json(kept.with_suffix(".json").read_bytes())
            content = kept.read_bytes()
        except (OSError, ValidationError):
            return None
        if hashlib.sha256(content).hexdigest() != variant.sha256:
            return None
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_bytes(content)
        unfinished.replace(path)
        return variant.model_copy(update={"recipe": recipe, "path": path})

    def keep(self, variant: Variant) -> None:
        """Keep a variant that was made; a cache that can't be written keeps nothing."""
        # The source's hash does not cover files beside it; fp32 is a copy anyway.
        if variant.path is None or self.source.external_data or variant.recipe.method in {"fp32", "given"}:
            return
        kept = self._file(variant.recipe)
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(kept, variant.path.read_bytes())
            self._write(kept.with_suffix(".json"), variant.model_copy(update={"path": None}).model_dump_json().encode())

    def _write(self, path: Path, content: bytes) -> None:
        """Write beside and rename, as two builds may share the folder."""
        with NamedTemporaryFile(dir=self.folder, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)

    def _file(self, recipe: Recipe) -> Path:
        return self.folder / f"{self._key(recipe)}.onnx"

    def _key(self, recipe: Recipe) -> str:
        samples = self.samples.get(recipe.calibration_data) if recipe.is_calibrated else None
        parts = {
            "recipe": recipe.model_dump(exclude={"name", "calibration_data"}),
            "source": self.source.sha256,
            "samples": samples.digest if samples else None,
            "versions": [onnxruntime.__version__, onnx.__version__, np.__version__, EDITION],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
