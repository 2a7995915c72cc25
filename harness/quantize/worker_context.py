"""What a process elsewhere is told of a build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.prepare import Prepared


@dataclass(frozen=True)
class WorkerContext:
    """What a process elsewhere needs to make one recipe: paths and words, nothing large.

    Attributes:
        source: file of the float model.
        folder: temporary, and on a disk that both processes see.
        prepared: without its content.
        oldest_runtime: as the context's.
        ranges: the file, or why there is none; None if the recipe has none.
        notes: on the calibration data.
        sample: the file of the sample that variants run on; None if there is none.
    """

    source: Path
    folder: Path
    prepared: Prepared
    oldest_runtime: str | None
    ranges: Path | str | None
    notes: tuple[str, ...]
    sample: Path | None = None
