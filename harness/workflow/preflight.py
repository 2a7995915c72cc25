"""Check a study against its model and data before any work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.measure import accuracy
from harness.quantize import build, matrix, metric
from harness.quantize.data import load
from harness.quantize.data.dims import resolve_dims
from harness.quantize.data_review import review
from harness.quantize.verify import reproducibility

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.quantize.data.load import Samples
    from harness.quantize.model.model import SourceModel
    from harness.quantize.recipe import Recipe
    from harness.study.study import Study


@dataclass(frozen=True)
class Preflight:
    """A study that was checked against its model and data; nothing is built yet.

    Attributes:
        dims: the symbolic dimensions' values, one set for each shape.
        evaluation: the evaluation samples, one for each of dims.
        warnings: what a reader of the numbers must know.
    """

    study: Study
    model: SourceModel
    dims: tuple[dict[str, int], ...]
    recipes: tuple[Recipe, ...]
    evaluation: tuple[Samples, ...]
    references: tuple[accuracy.Reference, ...]
    warnings: tuple[str, ...]


def check_inputs(study: Study, globs: Sequence[str] = ()) -> Preflight:
    """Check a study against its model and data before any work.

    Raises:
        UsageError: a member of its branch, if a part is missing or does not fit.
    """
    model = build.open_source(study)
    dims = resolve_dims(model, study.model.dims)
    recipes = matrix.select(matrix.plan(study), globs) if globs else matrix.plan(study)
    source = study.model.evaluation or study.model.calibration
    evaluation = tuple(load.load(source, model, values, what="evaluation") for values in dims)
    # Calibration data are loaded again when they are used; here so that data that don't fit end the run before it begins.
    found = review(study, model, dims[0], recipes, evaluation[0])
    figure = metric.load(study.model.metric) if study.model.metric else None
    # A model that is taken as it is has no fp32 model: what it computes here is what devices are compared with.
    title = accuracy.HERE if study.is_given else accuracy.FP32
    references = tuple(accuracy.Reference(study.model.path, samples, figure, study.model.output, title) for samples in evaluation)
    found += tuple(note for samples in evaluation[1:] for note in samples.notes)
    found += references[0].doubts()
    found += tuple(reference.difference.sentence for reference in references[1:] if reference.difference)[:1]
    if not any(reference.difference for reference in references) and (suspicion := reproducibility.suspicion(model.proto)):
        found += (suspicion,)
    return Preflight(study, model, dims, recipes, evaluation, references, tuple(dict.fromkeys(found)))
