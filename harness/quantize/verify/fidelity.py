"""A comparison of a variant's outputs with the reference's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.quantize.verify.classes import top1
from harness.quantize.verify.divergence import as_classes, divergence, has_classes
from harness.quantize.verify.figures import Fidelity
from harness.quantize.verify.output import OutputFidelity, OutputSums
from harness.quantize.verify.pairing import Outputs, PairedOutput, pair
from harness.quantize.verify.parts import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Fidelity", "OutputFidelity", "Part", "compare"]


def compare(
    reference: Sequence[Outputs],
    candidate: Sequence[Outputs],
    labels: NDArray[np.int64] | None = None,
    *,
    names: Sequence[str] | None = None,
    batch: int | None = None,
    classes: str | None = None,
) -> Fidelity:
    """Compare the outputs of two models.

    Args:
        reference: for each feed the outputs of the float model, by name or in order.
        candidate: the same of the variant.
        labels: integer class of each row, [rows of all feeds].
        names: of the outputs, where they come in order.
        batch: how many samples each feed holds, as the leading size of the model's inputs
            (:func:`harness.quantize.verify.pairing.batch_of`). An output whose first axis has this size has a sample in each row; of
            any other, a feed is one sample. Without, the outputs' own first axes decide.
        classes: name of the output that classes are taken of; without, the first floating-point output.

    Raises:
        DataError: if the outputs differ in number, name or shape, or the labels in number.
    """
    outputs = pair(reference, candidate, names, batch)
    sums = [_summed(output) for output in outputs]
    floats = [each for output, each in zip(outputs, sums, strict=True) if output.is_float]
    floats_first = [output for output in outputs if output.is_float and classes in {None, output.name}]
    table = _table(floats_first[0]) if floats_first else None
    agreement, accuracy = top1(table.pairs if table else [], labels)
    kl, probabilities = _divergence(table)
    figures = [each.fidelity() for each in sums]
    dead = [each.dead() for each in sums]
    of_floats = [figure for figure in figures if figure.sqnr_db is not None]
    compared, values = sum(each.compared for each in floats), sum(each.values for each in floats)
    return Fidelity(
        mse=_mean(sum(each.noise for each in floats), compared, of_floats),
        max_error=_lowest([-(figure.max_error or 0.0) for figure in of_floats], -1.0),
        mean_relative_error=_relative(floats),
        sqnr_db=_lowest([figure.sqnr_db for figure in of_floats]),
        cosine=_lowest([figure.cosine for figure in of_floats]),
        identical=bool(sums) and all(each.identical for each in sums),
        nan_count=sum(figure.nan_count for figure in of_floats),
        top1_agreement=agreement,
        top1_accuracy=accuracy,
        kl_divergence=kl,
        probabilities=probabilities,
        inf_count=sum(figure.inf_count for figure in of_floats),
        reference_nan_count=sum(figure.reference_nan_count for figure in of_floats),
        reference_inf_count=sum(figure.reference_inf_count for figure in of_floats),
        values=values,
        unequal_count=sum(each.unequal for each in floats),
        equal=_equal(outputs, sums),
        outputs=tuple(figures),
        worst_slice=_worst([each.worst_slice() for each in floats]),
        worst_sample=_worst(
            [_numbered(output, each.worst_sample()) for output, each in zip(outputs, sums, strict=True) if output.is_float]
        ),
        dead=tuple(part for parts, _ in dead for part in parts),
        dead_share=sum(share * each.values for (_, share), each in zip(dead, sums, strict=True) if each in floats)
        / (values or 1),
    )


def _summed(output: PairedOutput) -> OutputSums:
    sums = OutputSums(output.name, is_float=output.is_float, batched=output.batched)
    for ref, x in output.samples():
        sums.add(ref, x)
    return sums


def _numbered(output: PairedOutput, part: Part | None) -> Part | None:
    """Give a sample its number over all feeds."""
    return None if part is None or part.sample is None else replace(part, sample=output.sample(part.sample))


def _table(output: PairedOutput) -> PairedOutput:
    """The same output without axes of size 1 behind the first, where it is a table of classes then: [batch, classes, 1, 1]."""
    return replace(output, pairs=[(as_classes(ref), as_classes(x)) for ref, x in output.pairs])


def _divergence(table: PairedOutput | None) -> tuple[float | None, bool]:
    if table is None or not all(has_classes(ref) for ref, _ in table.pairs):
        return None, False
    return divergence(list(table.samples()) if table.batched else table.pairs)


def _mean(total: float, count: int, figures: Sequence[OutputFidelity]) -> float | None:
    if not figures:
        return None
    return total / count if count else figures[0].mse


def _relative(floats: Sequence[OutputSums]) -> float | None:
    if not floats:
        return None
    errors, size = sum(each.errors for each in floats), sum(each.size for each in floats)
    if size:
        return errors / size
    return math.inf if errors or any(each.unequal for each in floats) else 0.0


def _equal(outputs: Sequence[PairedOutput], sums: Sequence[OutputSums]) -> float | None:
    """The share of integer values that are equal."""
    integers = [each for output, each in zip(outputs, sums, strict=True) if not output.is_float]
    count = sum(each.values for each in integers)
    return sum(each.same for each in integers) / count if count else None


def _lowest(values: Sequence[float | None], sign: float = 1.0) -> float | None:
    """The lowest value, NaN if one is; None without values."""
    known = [value for value in values if value is not None]
    return sign * float(np.min(known)) if known else None


def _worst(parts: Sequence[Part | None]) -> Part | None:
    known = [part for part in parts if part is not None]
    return min(known, key=lambda part: math.inf if part.sqnr_db is None else part.sqnr_db, default=None)
