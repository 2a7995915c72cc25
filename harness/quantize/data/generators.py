"""Feeds that a user's callable gives, taken one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError
from harness.quantize.data.callables import blamed, find
from harness.quantize.data.fit import LABELS, checked_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.quantize.data.feeds import Labelled
    from harness.quantize.data.fit import Fit
    from harness.quantize.data.sources import Feed


def stream(fit: Fit, source: str) -> Callable[[], Iterator[Labelled]]:
    """Prepare calling ``module:callable`` once for each pass, without arguments.

    It gives a generator, or an object with ``__iter__`` and perhaps ``__len__``, of feeds: dictionaries of arrays by input name, or
    the plain array for a model with one input. A feed may bring the labels of its rows.

    Raises:
        DataError: if it can't be imported.
    """
    function = find(source)

    def begin() -> Iterator[Labelled]:
        with blamed(source):
            made = function()
            if not hasattr(made, "__iter__") or isinstance(made, dict):
                message = f"{source}: returned {type(made).__name__}; let it yield one dictionary of arrays for each run"
                raise DataError(message)
            promised = len(made) if hasattr(made, "__len__") else None
            items = iter(made)
        number = 0
        while True:
            with blamed(f"{source}: item {number}"):
                try:
                    item = next(items)
                except StopIteration:
                    break
            yield _checked(fit, source, number, item)
            number += 1
        if promised not in {None, number}:
            message = f"{source}: says that it holds {promised} samples, and gave {number}"
            raise DataError(message)

    return begin


def as_feed(fit: Fit, place: str, item: object) -> Feed:
    """Take what a user's code gave for a feed.

    Raises:
        DataError: if it is no dictionary of arrays, nor an array for the only input.
    """
    names = [spec.name for spec in fit.model.inputs]
    if isinstance(item, np.ndarray) and len(names) == 1:
        return {names[0]: item}
    if not isinstance(item, dict):
        message = f"{place} is {type(item).__name__}, not a dictionary of numpy arrays by input name ({', '.join(names)})"
        raise DataError(message)
    for name, value in item.items():
        if not isinstance(value, np.ndarray):
            message = f"{place}: '{name}' is {type(value).__name__}, not a numpy array: numpy.asarray makes one"
            raise DataError(message)
    return {str(name): value for name, value in item.items()}


def _checked(fit: Fit, source: str, number: int, item: object) -> Labelled:
    place = f"{source}: item {number}"
    feed = as_feed(fit, place, item)
    fit.check_feed(place, feed)
    labels = None
    if fit.wants_labels and LABELS in feed:
        labels = checked_labels(place, feed[LABELS])
    return {spec.name: feed[spec.name] for spec in fit.model.inputs}, labels
