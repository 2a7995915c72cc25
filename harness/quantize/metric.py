"""The user's own figure of merit: ``metric = "module:callable"`` under ``[model]`` of a study."""

from __future__ import annotations

import math
import numbers
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError
from harness.quantize.data.callables import blamed, find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Outputs = Mapping[str, NDArray[Any]]

NAME_LIMIT, COUNT_LIMIT = 60, 20  # characters of a figure's name, and how many figures there may be


@dataclass(frozen=True)
class Metric:
    """A callable of the user's: ``(outputs, reference, labels) -> float | dict[str, float]``.

    ``outputs`` and ``reference`` hold, for each feed of the evaluation data, the numeric outputs of the variant and of fp32 by their
    names; they are read-only. ``labels`` is int64 [rows of these feeds], or None.

    Attributes:
        source: ``module:callable``, as the study has it; it begins every message.
    """

    source: str
    function: Callable[..., object]
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __call__(
        self, outputs: Sequence[Outputs], reference: Sequence[Outputs], labels: NDArray[np.int64] | None
    ) -> dict[str, float]:
        """Compute the figures; several devices' outputs come from several threads, and are given to it one after the other.

        Returns:
            Each figure by its name; a single one has the callable's.

        Raises:
            DataError: if it raises, or gives something else than finite numbers.
        """
        arguments = [[{name: _sealed(value) for name, value in feed.items()} for feed in side] for side in (outputs, reference)]
        with self._lock, blamed(f"model.metric: {self.source}"):
            found = self.function(*arguments, labels)
        return self._checked(found)

    def _checked(self, found: object) -> dict[str, float]:
        figures = found if isinstance(found, dict) else {self.source.rpartition(":")[2]: found}
        if not 0 < len(figures) <= COUNT_LIMIT:
            message = f"model.metric: {self.source}: gave {len(figures)} figures; give 1 to {COUNT_LIMIT}"
            raise DataError(message)
        checked: dict[str, float] = {}
        for name, value in figures.items():
            number: Any = value.item() if isinstance(value, np.ndarray | np.generic) and value.shape == () else value
            if not isinstance(number, numbers.Real) or not math.isfinite(number):
                message = f"model.metric: {self.source}: gave {value!r:.60} for '{name}'; give a finite number, or a dict of them by name"
                raise DataError(message)
            checked[" ".join(str(name).split())[:NAME_LIMIT] or "metric"] = float(number)
        return checked


def load(source: str) -> Metric:
    """Import ``module:callable`` or ``file.py:callable``; a module may lie in the working folder.

    Raises:
        DataError: if it can't be imported, or is not callable.
    """
    try:
        function = find(source)
    except DataError as exc:
        message = f"model.metric: {exc}"
        raise DataError(message) from exc
    return Metric(source, function)


def _sealed(value: NDArray[Any]) -> NDArray[Any]:
    """View an array read-only: what a metric changed in place would change every later comparison."""
    view = value.view()
    view.flags.writeable = False
    return view
