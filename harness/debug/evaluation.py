"""A variant's outputs on the evaluation inputs, held against fp32's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from harness.debug.session import Session
from harness.errors import DataError, ModelError
from harness.quantize.data.fit import empty_inputs
from harness.quantize.reasons import reason_of
from harness.quantize.verify import class_output, fidelity, reproducibility, uncompared
from harness.quantize.verify.class_output import Choice
from harness.quantize.verify.pairing import ShapeError, batch_of

SHAPES_DIFFER = "the variant gives another shape than fp32, for example because the number of boxes depends on the data"
# What a search counts for an output whose shape differs, beside decibels.
UNEVEN = 1000.0

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from harness.quantize.data.load import Samples
    from harness.quantize.metric import Metric
    from harness.quantize.verify.reproducibility import Difference

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
        uneven: names of outputs that have other shapes than fp32's, as where the data decide how many boxes there are; the figures are of the
            others.
    """

    fidelity: fidelity.Fidelity
    equal: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    refusal: str | None = None
    uneven: tuple[str, ...] = ()

    @property
    def merit(self) -> float:
        """What a search goes by: see :attr:`harness.quantize.verify.fidelity.Fidelity.merit`; less where outputs can't be compared."""
        return self.fidelity.merit - UNEVEN * len(self.uneven)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        several = "outputs " if len(self.uneven) > 1 else "output "
        names = ", ".join(map(repr, self.uneven))
        uneven = [f"{several}{names} can't be compared: {SHAPES_DIFFER}"] if self.uneven else []
        return (*uneven, *self.fidelity.notes)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation inputs, and what fp32 makes of them.

    Attributes:
        feeds: of the model, gone over one at a time; there may be more than were computed.
        reference: for each of the first of them fp32's numeric outputs, by name.
        labels: int64 [rows of these feeds], or None.
        metric: the user's own figures, where the study names them.
        difference: how fp32 does not reproduce itself; such outputs are not compared. None if it does.
        chosen: the output that labels are held against.
        batch: samples of each feed, as the leading size of its inputs; None if they differ in it.
        uncompared: a sentence on the outputs that are not numeric; None if all are.
    """

    feeds: Iterable[Outputs]
    reference: Sequence[Outputs]
    labels: NDArray[np.int64] | None = None
    metric: Metric | None = None
    difference: Difference | None = None
    chosen: Choice = field(default_factory=Choice)
    batch: int | None = None
    uncompared: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores must know."""
        random = self.chosen.name(self.difference.outputs) if self.difference and self.labels is not None else None
        told = reproducibility.of_labels(random) if random else None
        return tuple(
            filter(None, [self.difference.sentence if self.difference else None, self.chosen.note, told, self.uncompared])
        )

    @property
    def has_floats(self) -> bool:
        """Whether an output is floating-point, so that there is an SQNR."""
        return any(value.dtype.kind == "f" for value in self._kept(self.reference[0]).values())

    @property
    def is_comparable(self) -> bool:
        """Whether any output of fp32 reproduces itself, so that a variant's can be compared with it."""
        return bool(self._kept(self.reference[0]))

    def first(self, count: int) -> Evaluation:
        """The same over the first feeds only, which are held in memory."""
        count = min(count, len(self.reference))
        rows = None if self.labels is None else self.labels[: len(self.labels) * count // len(self.reference)]
        return replace(self, feeds=list(islice(self.feeds, count)), reference=self.reference[:count], labels=rows)

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
        reference, compared = ([self._kept(each) for each in side] for side in (self.reference, outputs))
        uneven = tuple(
            name
            for name in reference[0]
            if any(_shape(one, name) != _shape(other, name) for one, other in zip(reference, compared, strict=True))
        )
        if uneven and len(uneven) == len(reference[0]):
            message = f"the outputs can't be compared: {SHAPES_DIFFER} ({_shapes(reference, compared, uneven[0])})"
            raise ShapeError(message)
        ref, x = (
            [{name: value for name, value in each.items() if name not in uneven} for each in side]
            for side in (reference, compared)
        )
        found = fidelity.compare(ref, x, batch=self.batch, classes=self.chosen.name(ref[0]))
        found = self._judged(found, outputs, uneven)
        metrics, refusal = {}, None
        try:
            metrics = self.metric(outputs, self.reference, self.labels) if self.metric else {}
        except DataError as exc:
            refusal = str(exc)
        return Score(found, found.equal, metrics, len(outputs), refusal, uneven)

    def _kept(self, outputs: Outputs) -> Outputs:
        """The outputs that reproduce themselves."""
        left_out = self.difference.outputs if self.difference else ()
        return {name: value for name, value in outputs.items() if name not in left_out}

    def _judged(self, found: fidelity.Fidelity, outputs: Sequence[Outputs], uneven: Sequence[str]) -> fidelity.Fidelity:
        """Fill in what labels tell, of the output that they are held against."""
        chosen = self.chosen.output
        found = found if self.is_comparable and not uneven and not self.uncompared else replace(found, identical=False)
        if chosen is None or self.labels is None or chosen.name in uneven:
            return found
        ref, x = ([each[chosen.name] for each in side] for side in (self.reference, outputs))
        reproducible = self.difference is None or chosen.name not in self.difference.outputs
        return replace(
            found,
            top1_accuracy=class_output.accuracy(chosen, x, self.labels),
            top1_agreement=class_output.agreement(chosen, ref, x) if reproducible else None,
        )


def begin(
    model: Path, samples: Samples, metric: Metric | None, *, seconds: float, least: int, output: str | None = None
) -> Evaluation:
    """Run fp32 on the evaluation inputs, on as many as the time allows, but ``least`` if there are as many; on some twice.

    Args:
        model: its file.
        samples: the evaluation data.
        metric: the user's own figures, where the study names them.
        seconds: the time.
        least: so many samples are run, however long they take.
        output: the one that labels are held against; None chooses one.

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
        given = session.outputs
        del session
        difference = reproducibility.differs(model, samples.feeds)
    except DataError:
        raise
    except Exception as exc:
        empty = next(filter(None, map(empty_inputs, samples.feeds)), None)
        where = f" ({empty})" if empty else ""
        message = f"{model}: onnxruntime can't run it with inputs from {samples.source}{where}: {reason_of(exc, [model.parent])}"
        raise ModelError(message) from exc
    labels = samples.labels
    if labels is not None:
        labels = labels[: len(labels) * len(outputs) // len(samples.feeds)]
    names = [name for name in given if outputs and name in outputs[0]]
    left_out = uncompared.sentence(given, names) if outputs else None
    chosen = class_output.find(outputs, names, labels, output)
    found = Evaluation(samples.feeds, outputs, labels, metric, difference, chosen, _batch(samples.feeds), left_out)
    if metric is not None:
        metric(found.reference, found.reference, found.labels)
    return found


def _batch(feeds: Iterable[Outputs]) -> int | None:
    return next((batch_of(feed) for feed in feeds), None)


def _shape(outputs: Outputs, name: str) -> tuple[int, ...] | None:
    return outputs[name].shape if name in outputs else None


def _shapes(reference: Sequence[Outputs], outputs: Sequence[Outputs], name: str) -> str:
    """The shapes of the first sample in which an output's differ."""
    for index, (ref, x) in enumerate(zip(reference, outputs, strict=True)):
        shapes = [_shape(each, name) for each in (ref, x)]
        if shapes[0] != shapes[1]:
            there, here = ("none" if shape is None else str(list(shape)) for shape in shapes)
            return f"output '{name}' of sample {index}: {there} in fp32, {here} in this variant"
    raise AssertionError(name)
