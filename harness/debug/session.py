"""A model, opened and run on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from harness.quantize.quiet import FATAL, quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Feed = Mapping[str, Array]

NUMERIC = "fiub"
FLOATS: dict[str, np.dtype[Any]] = {
    "tensor(float16)": np.dtype(np.float16),
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
}


class Session:
    """A session of onnxruntime's CPU provider.

    Attributes:
        names: of the outputs.
        outputs: their types as onnxruntime writes them, by name.
    """

    def __init__(self, model: Path | bytes, *, optimized: bool = True) -> None:
        """Open a model: a file, or a serialized one.

        Args:
            model: the file, or its content.
            optimized: False runs the graph as it is written, so that every tensor in it is computed.

        Raises:
            Exception: of onnxruntime, if it does not load it.
        """
        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        # Sessions come and go by the hundred here; threads that spin for the next call would take the cores from each other.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        with quiet():
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.outputs: dict[str, str] = {output.name: output.type for output in self._session.get_outputs()}
        self.names: list[str] = list(self.outputs)
        self._types = {value.name: FLOATS.get(value.type) for value in self._session.get_inputs()}

    def run(self, feed: Feed, names: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute outputs; those that are not numbers are left out. Floats are fed in the type that the model takes."""
        fitted = {
            name: value if (kind := self._types.get(name)) is None else value.astype(kind, copy=False)
            for name, value in feed.items()
        }
        found = self._session.run(names, fitted)
        return {
            name: value
            for name, value in zip(names or self.names, found, strict=True)
            if isinstance(value, np.ndarray) and value.dtype.kind in NUMERIC
        }
