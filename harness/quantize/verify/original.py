"""Runs the user's model on one sample; every model that is made from it before quantization is compared with the result."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from harness.errors import HarnessError
from harness.quantize.data import load as data
from harness.quantize.data import random_data
from harness.quantize.data.fit import Fit
from harness.quantize.model import storage
from harness.quantize.reasons import reason_of
from harness.quantize.verify import equivalence
from harness.quantize.verify.reproducibility import quoted
from harness.quantize.verify.sample import Sample, digest
from harness.study.datasets import DataTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.data.load import Samples
    from harness.quantize.model.model import SourceModel, TensorSpec
    from harness.quantize.verify.equivalence import Difference, Outputs

    Array = NDArray[Any]

OPENED = 200_000_000  # bytes of a model whose tensors are all looked at when it differs
# Of random floats, beside standard normal ones; integers are 0 and 1, or all the same.
LAWS: tuple[dict[str, str], ...] = ({}, {"f": "uniform(0.1, 1)"}, {"f": "ones", "i": "ones"}, {"f": "zeros", "i": "zeros"})


class Unverifiable(Exception):  # noqa: N818 - nothing is wrong with the model that is checked
    """The original gives nothing to compare with; its message says why."""


@dataclass(frozen=True)
class Answer:
    """What the original makes of one sample.

    Attributes:
        feed: the sample.
        outputs: by name, without those that differ from one run to the next.
        unstable: the names of those.
        seconds: of one inference.
    """

    feed: Outputs
    outputs: Outputs
    unstable: tuple[str, ...]
    seconds: float


@dataclass
class Original:
    """Runs the user's model on one sample, once, when something is first held against it.

    Attributes:
        source: the model.
        dims: sizes of its open dimensions; what is missing counts as 1.
        samples: data that were loaded already; the first that the model can be run with gives the sample.
        data: where calibration data are, of which the first is taken if none were loaded. Without any, the sample is random.
    """

    source: SourceModel
    dims: Mapping[str, int] = field(default_factory=dict)
    samples: Iterable[Samples] = ()
    data: str | DataTable | None = None

    @cached_property
    def _answer(self) -> Answer | str:
        """What the model makes of a sample, or why that is not known."""
        reason = "there is no sample to run the model with"
        try:
            for feed in self._feeds():
                took: list[float] = []
                try:
                    # A model with random operators differs from itself.
                    first, second = equivalence.run(self.source.path, feed, times=2, took=took)
                except Exception as exc:  # noqa: BLE001 - another sample may do
                    reason = f"onnxruntime can't run the model: {reason_of(exc, [self.source.path.parent])}"
                    if isinstance(exc, equivalence.RunError):
                        return reason_of(exc)
                    continue
                unstable = tuple(name for name in first if equivalence.compare({name: first[name]}, second))
                outputs = {name: value for name, value in first.items() if name not in unstable}
                if not outputs:
                    return (
                        "the model gives other outputs each time that it runs" if unstable else "the model has no numeric outputs"
                    )
                if not any(np.isfinite(value).any() for value in outputs.values()):
                    # Logarithms of negative numbers: such a sample can't show a difference.
                    reason = "no output is finite for any sample that was tried"
                    continue
                return Answer(feed, outputs, unstable, min(took))
        except HarnessError as exc:
            reason = str(exc)
        return reason

    @cached_property
    def sample(self) -> Sample | None:
        """The sample to run variants with; None if the model is too large, or gives nothing to compare with."""
        if storage.is_large(self.source.size) or isinstance(self._answer, str):
            return None
        found = Sample(self._answer.feed, self._answer.outputs, self._answer.seconds)
        return found if found.is_storable else None

    @property
    def digest(self) -> str | None:
        """Names the first sample that is tried, without running the model; None if there is none."""
        with suppress(HarnessError):
            return next(map(digest, self._feeds()), None)
        return None

    @property
    def note(self) -> str | None:
        """Why nothing, or not every output, can be verified; None if all can."""
        found = self._answer
        if isinstance(found, str):
            return f"not verified: {found}"
        if found.unstable:
            return f"not verified for {quoted(found.unstable)}: the model gives other values each time that it runs"
        return None

    def pairs(self, model: Path) -> dict[str, tuple[Array, Array]]:
        """Run a model that was made of the original on the sample.

        Args:
            model: its file.

        Returns:
            By name, the outputs of the original and of the model; empty if the original gives nothing to compare with.

        Raises:
            Exception: of onnxruntime, if it can't run the model.
        """
        known = self._answer
        if isinstance(known, str):
            return {}
        (outputs,) = equivalence.run(model, known.feed)
        return {name: (value, outputs[name]) for name, value in known.outputs.items()}

    def difference(self, model: Path) -> Difference | None:
        """Hold a model that was made of the original against it.

        Args:
            model: its file.

        Returns:
            The worst output that differs by more than rounding; None if there is none, or nothing can be verified.

        Raises:
            Exception: of onnxruntime, if it can't run the model with a sample that the original takes.
        """
        known = self._answer
        if isinstance(known, str):
            return None
        try:
            (outputs,) = equivalence.run(model, known.feed)
        except equivalence.RunError:
            return None
        if equivalence.compare(known.outputs, outputs) is None:
            return None
        (rounded,) = equivalence.run(self.source.path, equivalence.nudged(known.feed))
        found = equivalence.compare(known.outputs, outputs, rounded)
        return found and replace(found, tensor=self._first(model, known))

    def _first(self, model: Path, known: Answer) -> tuple[str, str, str] | None:
        """Find where the difference begins; to know that is worth no failure."""
        if self.source.size > OPENED:
            return None
        try:
            return equivalence.first_difference(self.source.content(), onnx.load(model), known.feed)
        except Exception:  # noqa: BLE001 - some tensors can't be outputs
            return None

    def _feeds(self) -> Iterator[Outputs]:
        """Yield samples to try."""
        for samples in self.samples:
            yield from samples.feeds[:1]
        if self.data is not None and not self.samples:
            # What is wrong with data that nothing is calibrated with is nobody's concern.
            with suppress(Exception):
                yield data.first(self.data, self.source, self.dims)
        shapes = {
            spec.name: tuple(
                self.dims.get(f"{spec.name}.{axis}", self.dims.get(size, 1)) if isinstance(size, str) else size
                for axis, size in enumerate(spec.shape)
            )
            for spec in self.source.inputs
        }
        fit = Fit(self.source, shapes, "evaluation")
        for laws in LAWS:
            chosen = {spec.name: laws[_kind(spec)] for spec in self.source.inputs if _kind(spec) in laws}
            for feed, _ in random_data.stream(fit, DataTable(random=chosen or "", samples=1), "random")():
                yield {name: np.ascontiguousarray(value) for name, value in feed.items()}


def _kind(spec: TensorSpec) -> str:
    return "f" if "float" in spec.dtype else "i"
