"""A variant's outputs on the evaluation inputs, held against fp32's."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError, ModelError
from harness.quantize.debug.session import Session
from harness.quantize.reasons import reason_of
from harness.quantize.verify import fidelity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.metric import Metric
    from harness.quantize.samples.data import Samples

    Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Score:
    """How good a model's outputs are.

    Attributes:
        fidelity: against fp32's outputs.
        equal: share of the values of integer outputs that are fp32's; None if there are none.
        metrics: the study's own figures.
        samples: how many feeds they are over.
        refusal: what the study's metric said of these outputs, if it could make nothing of them; the other figures stand.
    """

    fidelity: fidelity.Fidelity
    equal: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    refusal: str | None = None

    @property
    def merit(self) -> float:
        """What a search goes by: SQNR in dB; of a model without floating-point outputs, the share of equal values."""
        found = self.fidelity.sqnr_db if self.fidelity.sqnr_db is not None else self.equal
        return -math.inf if found is None or math.isnan(found) else found


@dataclass(frozen=True)
class Evaluation:
    """The evaluation inputs, and what fp32 makes of them.

    Attributes:
        feeds: of the model, gone over one at a time; there may be more than were computed.
        reference: for each of the first of them fp32's numeric outputs, by name.
        labels: int64 [rows of these feeds], or None.
    """

    feeds: Iterable[Outputs]
    reference: Sequence[Outputs]
    labels: NDArray[np.int64] | None = None
    metric: Metric | None = None

    @property
    def has_floats(self) -> bool:
        """Whether an output is floating-point, so that there is an SQNR."""
        return any(value.dtype.kind == "f" for value in self.reference[0].values())

    def first(self, count: int) -> Evaluation:
        """The same over the first feeds only, which are held in memory."""
        count = min(count, len(self.reference))
        rows = None if self.labels is None else self.labels[: len(self.labels) * count // len(self.reference)]
        return Evaluation(list(islice(self.feeds, count)), self.reference[:count], rows, self.metric)

    def score(self, model: Path, *, as_written: bool = False) -> Score:
        """Run a model.

        Args:
            model: its file.
            as_written: run the graph without optimizations where onnxruntime fails at those: it does at some that are quantized
                in part ("Attempt to replace the existing tensor"), and what quantizing costs is to be seen all the same.

        Raises:
            Exception: of onnxruntime, if it can't.
            DataError: if the outputs can't be compared.
        """
        try:
            session = Session(model)
        except Exception:
            if not as_written:
                raise
            session = Session(model, optimized=False)
        outputs = [session.run(feed) for feed in islice(self.feeds, len(self.reference))]
        pairs = [
            (ref[name], x[name])
            for ref, x in zip(self.reference, outputs, strict=True)
            for name in ref
            if ref[name].dtype.kind != "f"
        ]
        found = fidelity.compare(self.reference, outputs, self.labels)
        count = sum(ref.size for ref, _ in pairs)
        equal = float(sum(int(np.sum(ref == x)) for ref, x in pairs) / count) if count else None
        metrics, refusal = {}, None
        try:
            metrics = self.metric(outputs, self.reference, self.labels) if self.metric else {}
        except DataError as exc:
            refusal = str(exc)
        return Score(found, equal, metrics, len(outputs), refusal)


def begin(model: Path, samples: Samples, metric: Metric | None, *, seconds: float, least: int) -> Evaluation:
    """Run fp32 on the evaluation inputs, on as many as the time allows, but ``least`` if there are as many.

    Raises:
        ModelError: if onnxruntime can't run the model with them.
        DataError: if the metric fails on fp32's own outputs.
    """
    end = time.monotonic() + seconds
    outputs: list[dict[str, NDArray[Any]]] = []
    try:
        session = Session(model)
        for feed in samples.feeds:
            if len(outputs) >= least and time.monotonic() > end:
                break
            outputs.append(session.run(feed))
    except DataError:
        raise
    except Exception as exc:
        message = f"{model}: onnxruntime can't run it with inputs from {samples.source}: {reason_of(exc, [model.parent])}"
        raise ModelError(message) from exc
    labels = samples.labels
    if labels is not None:
        labels = labels[: len(labels) * len(outputs) // len(samples.feeds)]
    found = Evaluation(samples.feeds, outputs, labels, metric)
    if metric is not None:
        metric(found.reference, found.reference, found.labels)
    return found
