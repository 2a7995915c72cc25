"""Calibrated ranges kept from one build to the next, by the hash of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime

from harness import files
from harness.quantize.calibration.probe import kinds_of
from harness.quantize.model import external_data

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.quantize.calibration.calibration import Calibration

EDITION = 2  # raised when this package finds other ranges of the same data


@dataclass(frozen=True)
class Ranges:
    """A folder of ranges, ``KEY.ranges``: a line with the sha256 of the rest, then onnxruntime's JSON.

    Attributes:
        folder: made when something is kept.
    """

    folder: Path

    def find(self, key: str, path: Path) -> bool:
        """Copy kept ranges to a path.

        Returns:
            Whether they are kept, and are what they were.
        """
        try:
            digest, _, content = self._file(key).read_bytes().partition(b"\n")
        except OSError:
            return False
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return False
        path.write_bytes(content)
        return True

    def keep(self, key: str, path: Path) -> None:
        """Keep the ranges in a file; a folder that can't be written keeps nothing."""
        content = path.read_bytes()
        with suppress(OSError):
            for folder in (self.folder.parent, self.folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_bytes(self._file(key), hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.ranges"


def key_of(model: str, samples: str, calibration: Calibration, op_types: Iterable[str]) -> str:
    """Name ranges by what they depend on.

    Args:
        model: of :func:`digest_of`.
        samples: hash of the calibration data.
        calibration: method and options.
        op_types: operators that recipes name, beside those that are always calibrated.
    """
    parts = {
        "model": model,
        "samples": samples,
        "method": calibration.method,
        "options": calibration.options,
        "kinds": kinds_of(op_types),
        "versions": [onnxruntime.__version__, onnx.__version__, np.__version__, EDITION],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def digest_of(model: Path) -> str:
    """The sha256 of a model file and the files beside it that hold its tensors, in hex."""
    beside = external_data.locations(onnx.load(model, load_external_data=False))
    digest = hashlib.sha256()
    for path in (model, *(model.with_name(name) for name in beside)):
        digest.update(bytes.fromhex(files.sha256(path)))
    return digest.hexdigest()
