"""Baselines on disk: a small file fit for git, and the models by hash in a folder of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness import files
from harness.errors import ResultsError
from harness.quantize.model import storage
from harness.records.baseline import FORMAT, Baseline
from harness.records.format import other_version
from harness.records.variant_files import located

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.quantize.recipe import Variant

SUFFIX = ".json"


def save(baseline: Baseline, path: Path, models: Path) -> int:
    """Write a baseline's file, and keep its models by hash.

    Args:
        baseline: with the paths of its models.
        path: of the file; the folder is made if need be.
        models: the folder where models are kept.

    Returns:
        How many models were added; the others were there.

    Raises:
        ResultsError: if something can't be read or written.
    """
    added = 0
    try:
        models.mkdir(mode=0o700, parents=True, exist_ok=True)
        for variant in baseline.variants:
            assert variant.path is not None and variant.sha256 is not None  # noqa: S101, PT018 - only made ones are taken
            kept = models / f"{variant.sha256}.onnx"
            if not kept.exists():
                storage.copy(variant.path, kept, variant.data)
                added += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        bare = tuple(variant.model_copy(update={"path": None}) for variant in baseline.variants)
        content = baseline.model_copy(update={"variants": bare}).model_dump(mode="json", exclude_defaults=True)
        files.write_text(path, json.dumps({"format": FORMAT, **content}, indent=1, ensure_ascii=False) + "\n", sync=True)
    except OSError as exc:
        message = f"{exc.filename or path}: can't be written or read: {exc.strerror}"
        raise ResultsError(message) from exc
    return added


def read(path: Path) -> Baseline:
    """Read a baseline's file.

    Raises:
        ResultsError: if it can't be read, or is none.
    """
    try:
        content = path.read_bytes()
        return Baseline.model_validate_json(content)
    except OSError as exc:
        message = f"{path}: can't be read: {exc.strerror}"
        raise ResultsError(message) from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"]))
        fault = f"{f'{place}: ' if place else ''}{first['msg']}"
        other = other_version(path, content, FORMAT, "save it again with this version")
        message = (
            f"{other} ({fault})"
            if other
            else f"{path}: the file is not a baseline, or is damaged: {fault}; restore it, or save the baseline again"
        )
        raise ResultsError(message) from exc


def load(path: Path, models: Path) -> Baseline:
    """Read a baseline's file and find its models.

    Raises:
        ResultsError: if it can't be read, or a model is not on this machine.
    """
    found = read(path)
    variants = tuple(each.model_copy(update={"path": models / f"{each.sha256}.onnx"}) for each in found.variants)
    _check(
        variants, path, f"copy the folder {models} from the machine that ran 'harness baseline save', or save the baseline again"
    )
    return found.model_copy(update={"kind": "saved", "variants": variants})


def of_folder(baseline: Baseline, folder: Path) -> Baseline:
    """Find the models of a run's folder.

    Raises:
        ResultsError: if one is missing or was changed.
    """
    variants = located(baseline.variants, folder)
    _check(variants, folder, "archive runs with their variants/ folder, or save a baseline before you delete it")
    return baseline.model_copy(update={"variants": variants})


def _check(variants: Iterable[Variant], where: Path, hint: str) -> None:
    """Check that every model exists and is unchanged since it was measured.

    Raises:
        ResultsError: if not.
    """
    for variant in variants:
        path = variant.path or Path()
        if lost := next((file for file in (path, *variant.files().values()) if not file.is_file()), None):
            message = f"{where}: the model of '{variant.name}' is missing: {lost}; {hint}"
            raise ResultsError(message)
        if not storage.is_whole(path, variant.sha256, variant.data):
            message = f"{where}: the model of '{variant.name}' has changed since it was measured: {path}; {hint}"
            raise ResultsError(message)
