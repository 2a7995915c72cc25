"""Which input files are for, and the fixed values of the inputs beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.quantize.data.fit import Fit
    from harness.quantize.data.sources import Array, Feed
    from harness.quantize.model.model import TensorSpec


def chosen_input(fit: Fit, name: str | None, place: str, axes: int | None, what: str) -> TensorSpec:
    """Find the input that files are for.

    Args:
        fit: the model's side.
        name: as the study says; without it, the only one with so many axes.
        place: how messages begin.
        axes: of the input; None leaves it open.
        what: such as ``images``.

    Raises:
        DataError: if there is none, or more than one.
    """
    inputs = fit.model.inputs
    names = [spec.name for spec in inputs]
    if name is not None and name not in names:
        message = f"{place}: the model has no input '{name}'; {nearest(name, names)}"
        raise DataError(message)
    wanted = [spec for spec in inputs if name in {None, spec.name}]
    found = [spec for spec in wanted if axes is None or len(spec.shape) == axes]
    listed = "; ".join(map(str, wanted))
    if not found:
        message = f"{place}: {what} are for an input with {axes} axes, and {fit.model.path.name} has {listed}"
        raise DataError(message)
    if len(found) > 1:
        message = f"{place}: which input are the {what} for? in a study, set input to one of {', '.join(spec.name for spec in found)}, and give the others in fixed"
        raise DataError(message)
    return found[0]


def fixed_values(fit: Fit, values: Mapping[str, Any], made: Sequence[str], place: str) -> Feed:
    """Spread the study's ``fixed`` values over whole inputs.

    Args:
        fit: the model's side.
        values: a number, or nested lists, for each input.
        made: inputs that the files give.
        place: how messages begin.

    Raises:
        DataError: if one is not an input, does not fit, or an input is left without a value.
    """
    names = [spec.name for spec in fit.model.inputs if spec.name not in made]
    for name in values:
        if name not in names:
            hint = nearest(name, names) if names else "there is no other input"
            message = f"{place}: fixed has '{name}'; {hint}"
            raise DataError(message)
    for name in names:
        if name not in values:
            message = f"{place}: input '{name}' is left without a value; give it in fixed, such as fixed = {{ {name} = 0 }}"
            raise DataError(message)
    return {spec.name: _spread(fit, spec, values[spec.name], place) for spec in fit.model.inputs if spec.name in names}


def _spread(fit: Fit, spec: TensorSpec, value: object, place: str) -> Array:
    """Make one whole input of a value.

    Raises:
        DataError: if it does not fit.
    """
    reason = "a whole number is wanted"
    try:
        given = np.asarray(value)
        cast = given.astype(spec.dtype)
        if cast.dtype.kind == "f" or np.array_equal(cast, given):
            return np.array(np.broadcast_to(cast, fit.shapes[spec.name]))
    except (ValueError, TypeError, OverflowError) as exc:
        reason = str(exc)
    message = f"{place}: fixed '{spec.name}' = {value!r:.60} does not fit; {fit.wants(spec)}: {reason}"
    raise DataError(message)
