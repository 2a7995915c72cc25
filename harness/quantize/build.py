"""Makes the variants of a study."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness.errors import ResultsError
from harness.quantize import data, ort_format, readback, storage
from harness.quantize.cache import Cache
from harness.quantize.dims import resolve_dims
from harness.quantize.matrix import plan
from harness.quantize.methods import METHODS
from harness.quantize.model import open_model, read_model
from harness.quantize.reasons import reason_of
from harness.quantize.recipe import Variant
from harness.quantize.rules import impossible
from harness.quantize.sharing import Sharing
from harness.quantize.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.quantize.model import SourceModel
    from harness.quantize.recipe import Recipe
    from harness.study import Study

# What a disk answers that is full, over quota, read-only or broken, or holds no file of that size: no recipe's fault.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def build(  # noqa: PLR0913 - each has a name of its own
    study: Study,
    out_dir: Path,
    *,
    model: SourceModel | None = None,
    dims: Mapping[str, int] | None = None,
    recipes: Sequence[Recipe] | None = None,
    cache: Path | None = None,
    oldest_runtime: str | None = None,
    on_event: Callable[[Variant], None] = lambda _: None,
) -> tuple[Variant, ...]:
    """Make the variants of a study, one file ``NAME.onnx`` or ``NAME.ort`` each; those that are the same share the file of the first.

    A recipe that fails gives a variant with the reason, and the others go on. The model is opened and prepared once, and
    calibrated once per method. A file is written beside and renamed when it is whole.

    Args:
        study: the question.
        out_dir: where the files go; made if it is missing.
        model: the study's model, if it is open already.
        dims: sizes for the calibration data; without, the first combination of the study's.
        recipes: those to make; without, all of the study's.
        cache: a folder that keeps variants for the next build; None keeps nothing.
        oldest_runtime: the oldest version of onnxruntime that is to load the variants; None leaves files as the tools stamp them.
        on_event: is told of each variant as soon as it is known.

    Returns:
        One variant per recipe, in their order.

    Raises:
        StudyError: if the study names two variants alike.
        ModelError: if the model can't be used.
        DataError: if there are recipes that are calibrated, and the calibration data do not fit.
        ResultsError: if the folder can't be written.
    """
    recipes = plan(study) if recipes is None else recipes
    source = model or open_source(study)
    sizes = resolve_dims(source, study.model.dims)[0] if dims is None else dims
    _refuse_to_overwrite(source, recipes, out_dir)
    calibrated = [recipe for recipe in recipes if _is_calibrated(recipe)]
    sources = dict.fromkeys(recipe.calibration_data for recipe in calibrated)
    samples = {name: data.load(name or study.model.calibration, source, sizes, what="calibration") for name in sources}
    op_types = tuple(dict.fromkeys(kind for recipe in calibrated for kind in recipe.op_types))
    variants: list[Variant] = []
    sharing = Sharing(recipes, source, oldest_runtime)
    with _scratch(out_dir) as scratch:
        workshop = Workshop(source, samples, scratch, op_types, oldest_runtime)
        kept = Cache(cache, source, samples, oldest_runtime) if cache else None
        for recipe in recipes:
            variant = sharing.known(recipe, variants) or _find_or_make(recipe, workshop, out_dir, kept, sharing)
            variant = sharing.settle(variant, variants)
            if variant.path != out_dir / f"{recipe.name}.onnx":
                storage.remove(out_dir / f"{recipe.name}.onnx")
            on_event(variant)
            variants.append(variant)
    return tuple(variants)


def open_source(study: Study) -> SourceModel:
    """Open a study's model; only one that is taken as given may be quantized.

    Raises:
        ModelError: if it can't be used.
    """
    return read_model(study.model.path) if study.is_given else open_model(study.model.path)


def needs_calibration(recipes: Sequence[Recipe]) -> bool:
    """Say whether any of the recipes needs calibration data."""
    return any(_is_calibrated(recipe) for recipe in recipes)


def _is_calibrated(recipe: Recipe) -> bool:
    return recipe.is_calibrated and impossible(recipe) is None


def _find_or_make(recipe: Recipe, workshop: Workshop, out_dir: Path, cache: Cache | None, sharing: Sharing) -> Variant:
    """Take a variant from the cache, or make it and keep it there."""
    found = cache.find(recipe, out_dir / recipe.file_name) if cache else None
    if found:
        return found
    variant = _make(recipe, workshop, out_dir, sharing)
    if cache:
        cache.keep(variant)
    return variant


def _make(recipe: Recipe, workshop: Workshop, out_dir: Path, sharing: Sharing) -> Variant:
    """Make one variant."""
    path = out_dir / recipe.file_name
    if rule := sharing.barred(recipe):
        storage.remove(path)
        return Variant(recipe=recipe, state="impossible", reason=rule)
    # A folder of its own, as a recipe may be called like a file of the workshop.
    unfinished = workshop.folder / "made" / f"{recipe.name}.onnx"
    try:
        unfinished.parent.mkdir(exist_ok=True)
        notes = METHODS[recipe.method](recipe, workshop, unfinished)
        storage.settle(unfinished)
        if recipe.method not in {"fp32", "given"}:
            readback.mend(unfinished, workshop.oldest_runtime)
        notes += readback.check(recipe, unfinished, workshop.oldest_runtime)
        ort_format.finish(unfinished, recipe.file_format)
        made = storage.describe(unfinished)
        storage.move(unfinished, path, made.data)
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in DISK:
            raise
        storage.remove(path)
        reason = reason_of(exc, [unfinished.parent, workshop.folder])
        return Variant(recipe=recipe, state="failed", reason=reason, preparation=workshop.preparation(recipe))
    return Variant(
        recipe=recipe,
        state="made",
        path=path,
        sha256=made.sha256,
        size=made.size,
        data=made.data,
        preparation=workshop.preparation(recipe),
        notes=notes,
    )


def _refuse_to_overwrite(source: SourceModel, recipes: Sequence[Recipe], out_dir: Path) -> None:
    """Protect the user's model.

    Raises:
        ResultsError: if a variant would take its place.
    """
    taken = source.path.resolve()
    for recipe in recipes:
        if (out_dir / recipe.file_name).resolve() == taken:
            message = f"{out_dir}: variant '{recipe.name}' would overwrite the model itself, {source.path}; give another folder"
            raise ResultsError(message)


@contextmanager
def _scratch(out_dir: Path) -> Iterator[Path]:
    """Make a temporary folder in the output folder, so that a finished file can be renamed into place.

    Raises:
        ResultsError: if it can't be made.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(prefix=".unfinished-", dir=out_dir)
    except OSError as exc:
        message = f"{out_dir}: variants can't be written here: {exc.strerror}"
        raise ResultsError(message) from exc
    try:
        with folder:
            yield Path(folder.name)
    except OSError as exc:
        if exc.errno not in DISK:
            raise
        message = f"{out_dir}: variants can't be written here: {exc.strerror}; make room or give another folder"
        raise ResultsError(message) from exc
