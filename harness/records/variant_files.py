"""The paths of a run's model files: below its folder, named after their recipes. run.json has only their hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measure.pairs import BASELINE
from harness.records.folder import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.quantize.recipe import Variant


def folder_of(run: Path, *, baseline: bool = False) -> Path:
    """The folder of a run's model files, or of those that a gate's baseline has."""
    return run / VARIANTS / "baseline" if baseline else run / VARIANTS


def located(variants: Sequence[Variant], run: Path) -> tuple[Variant, ...]:
    """Give variants the paths of their files; equal files are kept once, under the name of one of their variants.

    Args:
        variants: of a run.
        run: its folder.
    """
    paths: dict[str, list[Path]] = {}
    for variant in variants:
        if variant.sha256 is not None:
            paths.setdefault(variant.sha256, []).append(_own(variant, run))
    return tuple(
        variant
        if variant.sha256 is None
        else variant.model_copy(update={"path": _first(_own(variant, run), paths[variant.sha256])})
        for variant in variants
    )


def _own(variant: Variant, run: Path) -> Path:
    """The path of a variant's file if no other one has the same."""
    place = folder_of(run, baseline=variant.name.startswith(BASELINE))
    return place / variant.recipe.file_name.removeprefix(BASELINE)


def _first(own: Path, others: Sequence[Path]) -> Path:
    """The path that is there; a variant's own if none is."""
    return next((path for path in (own, *others) if path.is_file()), own)
