"""A model whose activations can be seen: a session that gives them, and their smallest and largest values, for one sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization.calibrate import MinMaxCalibrater
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from harness.quantize.model import external_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.data.sources import Feed

    Array = NDArray[Any]
    Row = list[Array | None]


def kinds_of(op_types: Iterable[str]) -> list[str]:
    """List the operators whose tensors are calibrated: all that onnxruntime quantizes by default, and some that recipes name."""
    return sorted({*QLinearOpsRegistry, *QDQRegistry, *op_types})


class Probe:
    """A session as ``quantize_static`` makes it to calibrate: nothing optimized, on the CPU.

    Attributes:
        tensors: names of those to calibrate.
    """

    def __init__(self, model: Path, op_types: Iterable[str], folder: Path, *, whole: bool) -> None:
        """Load a model.

        Args:
            model: the prepared model.
            op_types: see :func:`kinds_of`.
            folder: where the model with more outputs is written.
            whole: whether activations are wanted, and not only their extremes.
        """
        file = folder / "augmented.onnx"
        outside = bool(external_data.locations(onnx.load(model, load_external_data=False)))
        self._minmax = MinMaxCalibrater(model, kinds_of(op_types), str(file), use_external_data_format=outside)
        chosen, values = self._minmax.select_tensors_to_calibrate(self._minmax.model)
        self.tensors: tuple[str, ...] = tuple(sorted(chosen))
        if whole:
            graph = self._minmax.model.graph
            already = {output.name for output in graph.output}
            graph.output.extend(values[name] for name in self.tensors if name not in already)
            self._minmax.num_model_outputs = len(graph.output)
        self._minmax.augment_graph()
        # The session has it from the file.
        self._minmax.model = None
        self._minmax.infer_session = onnxruntime.InferenceSession(file, _options(), providers=["CPUExecutionProvider"])
        outputs = [output.name for output in self._minmax.infer_session.get_outputs()]
        first = self._minmax.num_model_outputs
        self._extremes = outputs[first : first + 2 * len(self.tensors)]
        self._whole = list(self.tensors) if whole else []

    def run(self, feed: Feed) -> tuple[Row, dict[str, Array]]:
        """Run one sample.

        Returns:
            The extremes in onnxruntime's order for :meth:`ranges`, and all activations by name if they are wanted.
        """
        # Asked for nothing, a session gives all that it has.
        found = self._minmax.infer_session.run([*self._extremes, *self._whole], feed) if self.tensors else []
        blank: Row = [None] * self._minmax.num_model_outputs
        return blank + found[: len(self._extremes)], dict(zip(self._whole, found[len(self._extremes) :], strict=True))

    def ranges(self, rows: Sequence[Row], options: Mapping[str, Any]) -> Any:  # noqa: ANN401 - onnxruntime is not typed
        """Compute the ranges of the method MinMax.

        Args:
            rows: the extremes of each sample, or joined ones.
            options: of the method, all of them.

        Returns:
            onnxruntime's TensorsData.

        Raises:
            ValueError: if the averaging constant is not from 0 to 1.
        """
        minmax = self._minmax
        if options["moving_average"] and not 0 <= options["averaging_constant"] <= 1:
            message = "averaging_constant must be from 0 to 1"
            raise ValueError(message)
        for name, value in options.items():
            setattr(minmax, name, value)
        known = _without_empty(rows) if options["moving_average"] else list(rows)
        minmax.intermediate_outputs, minmax.calibrate_tensors_range = known, None
        return minmax.compute_data()


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Between two samples the cores are ours: its threads would turn in circles until the next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _without_empty(rows: Sequence[Row]) -> list[Row]:
    """Leave samples in which a tensor has no values out of its average: their extremes are infinite, and the average would be.

    A tensor that is empty in every sample keeps them: onnxruntime's tools take its range for unknown.
    """
    found = [list(row) for row in rows]
    for column in [index for index, value in enumerate(rows[0]) if value is not None]:
        values = [row[column] for row in rows]
        infinite = [value is not None and bool(np.isinf(value).all()) for value in values]
        if any(infinite) and not all(infinite):
            for row, empty in zip(found, infinite, strict=True):
                value = row[column]
                row[column] = np.full_like(value, np.nan) if empty and value is not None else value
    return found


def joined(one: Row, other: Row) -> Row:
    """Join the extremes of two samples: smallest of the smallest, largest of the largest, as onnxruntime does for all at once."""
    pick = (np.fmin, np.fmax)
    numbers = iter(range(len(one)))
    return [None if a is None or b is None else pick[next(numbers) % 2](a, b) for a, b in zip(one, other, strict=True)]
