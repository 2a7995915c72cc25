"""The data of a study, opened before anything is made, and what a reader of its results must know about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import DataError
from harness.quantize import build
from harness.quantize.data import lint, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.quantize.data.load import Samples
    from harness.quantize.model.model import SourceModel
    from harness.quantize.recipe import Recipe
    from harness.study.study import Study

OWN = "the calibration data"


def review(
    study: Study,
    model: SourceModel,
    dims: Mapping[str, int],
    recipes: Sequence[Recipe],
    evaluation: Samples | None = None,
) -> tuple[str, ...]:
    """Open the calibration data of all recipes, and look at them and the evaluation data.

    Args:
        study: names the data.
        model: what they are fed to.
        dims: sizes for the calibration data.
        recipes: those that are made.
        evaluation: the evaluation data, if they are open already.

    Returns:
        Notes of the data, and what is wrong with them.

    Raises:
        DataError: if calibration data can't be read or do not fit.
    """
    # Recipes by the data that they are calibrated with.
    users: dict[str | None, list[str]] = {}
    for recipe in recipes:
        if build.needs_calibration([recipe]):
            users.setdefault(recipe.calibration_data, []).append(recipe.name)
    found: list[str] = []
    judged = evaluation
    if judged is None and users and study.model.evaluation is not None:
        try:
            judged = load.load(study.model.evaluation, model, dims, what="evaluation")
        except DataError as exc:
            found.append(f"the calibration data could not be compared with the evaluation data: {exc}")
    apart = judged if study.model.evaluation is not None else None
    for source, names in users.items():
        samples = load.load(source or study.model.calibration, model, dims, what="calibration")
        name = OWN if source is None else f"{OWN} of {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        # Those of a variant's own data are among its notes.
        found += samples.notes if source is None else ()
        found += lint.calibration(lint.Side(name, samples), apart)
    if judged is not None and (apart is not None or not users):
        found += [*judged.notes, *lint.evaluation(judged, model)]
    elif judged is not None:
        found += judged.notes
    return tuple(dict.fromkeys(found))
