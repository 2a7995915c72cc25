"""The user's own figure of merit: ``metric = "module:callable"`` under ``[model]`` of a study."""

from __future__ import annotations

import importlib
import math
import numbers
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError

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
        try:
            with self._lock:
                found = self.function(*arguments, labels)
        except Exception as exc:
            said = " ".join(str(exc).split())[:500]
            message = f"{self.source} (model.metric): raised {type(exc).__name__}: {said}"
            raise DataError(message) from exc
        return self._checked(found)

    def _checked(self, found: object) -> dict[str, float]:
        figures = found if isinstance(found, dict) else {self.source.rpartition(":")[2]: found}
        if not 0 < len(figures) <= COUNT_LIMIT:
            message = f"{self.source} (model.metric): gave {len(figures)} figures; give 1 to {COUNT_LIMIT}"
            raise DataError(message)
        checked: dict[str, float] = {}
        for name, value in figures.items():
            number: Any = value.item() if isinstance(value, np.ndarray | np.generic) and value.shape == () else value
            if not isinstance(number, numbers.Real) or not math.isfinite(number):
                message = f"{self.source} (model.metric): gave {value!r:.60} for '{name}'; give a finite number, or a dict of them by name"
                raise DataError(message)
            checked[" ".join(str(name).split())[:NAME_LIMIT] or "metric"] = float(number)
        return checked


def load(source: str) -> Metric:
    """Import ``module:callable``; the module may lie in the working folder.

    Raises:
        DataError: if it can't be imported, or is not callable.
    """
    module_name, _, name = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:
        message = f"{source} (model.metric): module '{module_name}' can't be imported: {type(exc).__name__}: {exc}"
        raise DataError(message) from exc
    function = getattr(module, name, None)
    if not callable(function):
        message = f"{source} (model.metric): {module.__file__} has no callable '{name}'"
        raise DataError(message)
    return Metric(source, function)


def _sealed(value: NDArray[Any]) -> NDArray[Any]:
    """View an array read-only: what a metric changed in place would change every later comparison."""
    view = value.view()
    view.flags.writeable = False
    return view
