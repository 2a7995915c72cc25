"""Makes the variants of a study."""

from __future__ import annotations

import secrets
import shutil
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness.errors import ResultsError
from harness.quantize.cache import Cache
from harness.quantize.calibration.ranges import Ranges
from harness.quantize.context import BuildContext
from harness.quantize.data import load
from harness.quantize.data.dims import resolve_dims
from harness.quantize.deduplication import Sharing
from harness.quantize.making import DISK, make_all
from harness.quantize.matrix import plan
from harness.quantize.model import storage
from harness.quantize.model.model import open_model, read_model
from harness.quantize.planning.constraints import impossible
from harness.quantize.recipe import Variant
from harness.quantize.verify import isolated
from harness.quantize.verify.class_output import check_name
from harness.quantize.verify.original import Original

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from harness.quantize.model.model import SourceModel
    from harness.quantize.recipe import Recipe
    from harness.study.study import Study


def build(  # noqa: PLR0913 - each has a name of its own
    study: Study,
    out_dir: Path,
    *,
    model: SourceModel | None = None,
    dims: Mapping[str, int] | None = None,
    recipes: Sequence[Recipe] | None = None,
    cache: Path | None = None,
    oldest_runtime: str | None = None,
    executor: Executor | None = None,
    on_event: Callable[[Variant], None] = lambda _: None,
) -> tuple[Variant, ...]:
    """Make the variants of a study, one file ``NAME.onnx`` or ``NAME.ort`` each; those that are the same share the file of the first.

    A recipe that fails gives a variant with the reason, and the others go on. The model is opened and prepared once, and
    calibrated once, by all methods together. A file is written beside and renamed when it is whole. What takes longer than
    processes take to start is made by one for each core; one that dies is a failed variant.

    Args:
        study: the question.
        out_dir: where the files go; made if it is missing.
        model: the study's model, if it is open already.
        dims: sizes for the calibration data; without, the first combination of the study's.
        recipes: those to make; without, all of the study's.
        cache: a folder that keeps variants, and the ranges of calibrations, for the next build; None keeps nothing.
        oldest_runtime: the oldest version of onnxruntime that is to load the variants; None leaves files as the tools stamp them.
        executor: makes the variants, instead of processes of this build; what runs there must see ``out_dir`` under the same
            path, and have this package. It is not shut down.
        on_event: is told of each variant, in their order, as soon as it and those before it are known.

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
    samples = {name: load.load(name or study.model.calibration, source, sizes, what="calibration") for name in sources}
    op_types = tuple(dict.fromkeys(kind for recipe in calibrated for kind in recipe.op_types))
    variants: list[Variant] = []
    ready: dict[str, Variant] = {}
    sharing = Sharing(recipes, source, oldest_runtime)

    def deliver() -> None:
        """Tell of what is known, up to the first that is not: of two that are the same, the later one takes the earlier one's file."""
        for recipe in recipes[len(variants) :]:
            variant = sharing.known(recipe, variants) or ready.get(recipe.name)
            if variant is None:
                return
            variant = sharing.settle(variant, variants)
            if variant.path != out_dir / f"{recipe.name}.onnx":
                storage.remove(out_dir / f"{recipe.name}.onnx")
            on_event(variant)
            variants.append(variant)

    original = Original(source, sizes, tuple(samples.values()), study.model.calibration)
    kept = Cache(cache, source, samples, oldest_runtime, original) if cache else None
    with _scratch(out_dir) as scratch:
        missing = []
        for recipe in recipes:
            found = _found(recipe, sharing, kept, out_dir)
            if found is not None:
                ready[recipe.name] = found
            elif sharing.twin_of(recipe) is None:
                missing.append(recipe)
        deliver()
        ranges = Ranges(cache / "ranges") if cache else None
        context = BuildContext(source, samples, scratch, op_types, oldest_runtime, ranges, original)
        with isolated.ended(), closing(make_all(missing, context, executor)) as made:
            for variant in made:
                ready[variant.name] = _settled(variant, out_dir)
                if kept:
                    kept.keep(ready[variant.name])
                deliver()
    return tuple(variants)


def open_source(study: Study) -> SourceModel:
    """Open a study's model; only one that is taken as given may be quantized.

    Raises:
        ModelError: if it can't be used, or has no output of the name that the study gives.
    """
    found = read_model(study.model.path) if study.is_given else open_model(study.model.path)
    check_name(found, study.model.output)
    return found


def needs_calibration(recipes: Sequence[Recipe]) -> bool:
    """Say whether any of the recipes needs calibration data."""
    return any(_is_calibrated(recipe) for recipe in recipes)


def _is_calibrated(recipe: Recipe) -> bool:
    return recipe.is_calibrated and impossible(recipe) is None


def _found(recipe: Recipe, sharing: Sharing, kept: Cache | None, out_dir: Path) -> Variant | None:
    """Give a variant for which nothing is to be made: it can't exist, or an earlier build kept it."""
    if rule := sharing.barred(recipe):
        return _settled(Variant(recipe=recipe, state="impossible", reason=rule), out_dir)
    if sharing.twin_of(recipe) is not None or kept is None:
        return None
    return kept.find(recipe, out_dir / recipe.file_name)


def _settled(variant: Variant, out_dir: Path) -> Variant:
    """Move a finished file to its place; when there is none, nothing of an earlier build keeps its name."""
    path = out_dir / variant.recipe.file_name
    if variant.path is None:
        storage.remove(path)
        return variant
    storage.move(variant.path, path, variant.data)
    return variant.model_copy(update={"path": path})


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
    prefix = f".unfinished-{secrets.token_hex(4)}-"
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(prefix=prefix, dir=out_dir)
    except OSError as exc:
        message = f"{out_dir}: variants can't be written here: {exc.strerror}"
        raise ResultsError(message) from exc
    except KeyboardInterrupt:
        # It can come between the making of the folder and the return.
        for path in out_dir.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)
        raise
    try:
        with folder:
            yield Path(folder.name).resolve()
    except OSError as exc:
        if exc.errno not in DISK:
            raise
        message = f"{out_dir}: variants can't be written here: {exc.strerror}; make room or give another folder"
        raise ResultsError(message) from exc
