"""How near a variant's outputs are to the reference's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

Array = NDArray[Any]
Outputs = Mapping[str, Array] | Sequence[Array]
MIN_CLASSES = 2
# [batch, classes], or [batch, positions, classes] as language models and text recognizers give.
TABLE_RANKS = (2, 3)
# How far from 1 a row of probabilities in float32 may sum, and what stands for a probability of 0, as in keras.losses.KLDivergence.
SUM_TOLERANCE, LEAST_PROBABILITY = 1e-3, 1e-7
# Outputs of feeds that follow each other are joined up to this many values: 1,000 feeds of ten values are not 1,000 times the calls.
JOINED_VALUES = 1 << 16


@dataclass(frozen=True)
class Fidelity:
    """Distances over all floating-point outputs of all feeds, computed in float64, and agreement of the classes.

    The distances are None when no output is floating-point, and NaN when a value is.

    Attributes:
        mse: mean squared error.
        max_error: largest absolute error.
        mean_relative_error: Σ |ref - x| / Σ |ref|, the error of the mean value, which zeros in the reference don't spoil.
        sqnr_db: signal-to-quantization-noise ratio, 10·log10(Σ ref² / Σ (ref - x)²), in dB; the same as 20·log10 of the ratio of
            the norms in ``onnxruntime/quantization/qdq_loss_debug.py``; infinite when there is no noise.
        cosine: Σ ref·x / √(Σ ref² · Σ x²).
        identical: all outputs, integer ones too, are equal bit for bit but for the sign of zero and kinds of NaN.
        nan_count: values of the variant that are NaN.
        top1_agreement: share of rows whose largest class is the reference's; None if the first floating-point output is no
            table [batch, classes].
        top1_accuracy: share of rows whose largest class is the label; None without labels or classes.
        kl_divergence: mean over the rows of the first floating-point output of Σ p·ln(p / q), in nats (Kullback and Leibler 1951,
            Ann. Math. Stat. 22:79), p being the softmax of the reference's row and q that of the variant's; None if that output is
            no table [batch, classes] or [batch, positions, classes], NaN when a value of it is not finite.
        probabilities: the rows of the reference are probabilities already (none negative, sums of 1): p and q are the rows as they
            are, q's cut to what is possible and scaled to a sum of 1, and a 0 counts as 1e-7.
    """

    mse: float | None
    max_error: float | None
    mean_relative_error: float | None
    sqnr_db: float | None
    cosine: float | None
    identical: bool
    nan_count: int
    top1_agreement: float | None
    top1_accuracy: float | None
    kl_divergence: float | None = None
    probabilities: bool = False

    def as_json(self) -> dict[str, float | int | bool | None]:
        """Return the fields, with None for what JSON has no number for: infinity and NaN."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in asdict(self).items()
        }


def compare(reference: Sequence[Outputs], candidate: Sequence[Outputs], labels: NDArray[np.int64] | None = None) -> Fidelity:
    """Compare the outputs of two models.

    Args:
        reference: for each feed the outputs of the float model, by name or in order.
        candidate: the same of the variant.
        labels: integer class of each row, [rows of all feeds].

    Raises:
        DataError: if the outputs differ in number, name or shape, or the labels in number.
    """
    pairs = [list(_paired(number, ref, x)) for number, (ref, x) in enumerate(_zipped(reference, candidate))]
    flat = [(ref.ravel(), x.ravel()) for pair in pairs for ref, x in pair]
    floats = list(_joined((ref, x) for ref, x in flat if ref.dtype.kind == "f"))
    tables = [next(((r, x) for r, x in pair if r.dtype.kind == "f"), None) for pair in pairs]
    classes = [
        table
        for table in tables
        if table is not None and table[0].ndim == MIN_CLASSES and table[0].shape[1] >= MIN_CLASSES and len(table[0])
    ]
    agreement = accuracy = None
    if classes and len(classes) == len(tables):
        joined = list(_joined(classes))
        truth, guess = (np.concatenate([pair[side].argmax(axis=1) for pair in joined]) for side in (0, 1))
        agreement = float(np.mean(truth == guess))
        if labels is not None:
            if len(labels) != len(guess):
                message = f"{len(labels)} labels for {len(guess)} rows of outputs; give one label for each row"
                raise DataError(message)
            accuracy = float(np.mean(guess == labels))
    mse, max_error, relative, sqnr, cosine = _distances(floats) if floats else (None,) * 5
    rows = [table for table in tables if table is not None and _has_classes(table[0])]
    divergence, probabilities = (None, False) if len(rows) < len(pairs) else _divergence(list(_joined(rows)))
    return Fidelity(
        mse=mse,
        max_error=max_error,
        mean_relative_error=relative,
        sqnr_db=sqnr,
        cosine=cosine,
        identical=all(np.array_equal(ref, x, equal_nan=ref.dtype.kind == "f") for ref, x in _joined(flat)),
        nan_count=sum(int(np.isnan(x).sum()) for _, x in floats),
        top1_agreement=agreement,
        top1_accuracy=accuracy,
        kl_divergence=divergence,
        probabilities=probabilities,
    )


def _joined(pairs: Iterable[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    """Join pairs that follow each other along their first axis, where types and the other axes are the same; large ones stay as they are."""
    held: list[tuple[Array, Array]] = []
    for ref, x in pairs:
        if held:
            first = held[0]
            alike = ref.dtype == first[0].dtype and x.dtype == first[1].dtype and ref.shape[1:] == first[0].shape[1:]
            if not alike or (len(held) + 1) * max(ref.size, first[0].size) > JOINED_VALUES:
                yield _as_one(held)
                held = []
        held.append((ref, x))
    if held:
        yield _as_one(held)


def _as_one(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    return pairs[0] if len(pairs) == 1 else (np.concatenate([ref for ref, _ in pairs]), np.concatenate([x for _, x in pairs]))


def _has_classes(output: Array) -> bool:
    return output.ndim in TABLE_RANKS and output.shape[-1] >= MIN_CLASSES


def _divergence(tables: Sequence[tuple[Array, Array]]) -> tuple[float | None, bool]:
    """Return the mean KL divergence over all rows, and whether the rows are probabilities; None without rows."""
    if not any(ref.size for ref, _ in tables):
        return None, False
    probabilities = all(_is_probabilities(ref) for ref, _ in tables)
    logarithms = _logarithms if probabilities else _log_softmax
    total, rows = 0.0, 0
    with np.errstate(invalid="ignore", over="ignore"):
        for ref, x in tables:
            p, q = (logarithms(side.astype(np.float64)) for side in (ref, x))
            total += float(np.sum(np.exp(p) * (p - q)))
            rows += p.size // p.shape[-1]
    # Rounding can leave a mean of equal rows just below zero.
    return (max(0.0, total / rows) if math.isfinite(total) else math.nan), probabilities


def _is_probabilities(rows: Array) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((rows >= 0).all() and (np.abs(rows.sum(axis=-1, dtype=np.float64) - 1) <= SUM_TOLERANCE).all())


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - rows.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _logarithms(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    possible = np.clip(rows, LEAST_PROBABILITY, 1)
    return np.asarray(np.log(possible / possible.sum(axis=-1, keepdims=True)))


def _distances(pairs: Sequence[tuple[Array, Array]]) -> tuple[float, float, float, float, float]:
    """Return MSE, largest error, mean relative error, SQNR in dB and cosine; sums are kept per pair, so that nothing large is joined in memory."""
    count, largest = 0, 0.0
    signal = noise = power = product = size = errors = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for original, other in pairs:
            ref, x = original.astype(np.float64), other.astype(np.float64)
            error = ref - x
            count += error.size
            largest = float(np.maximum(largest, np.abs(error).max(initial=0.0)))
            signal += float(np.sum(ref * ref))
            noise += float(np.sum(error * error))
            power += float(np.sum(x * x))
            product += float(np.sum(ref * x))
            size += float(np.sum(np.abs(ref)))
            errors += float(np.sum(np.abs(error)))
    mse = noise / count if count else 0.0
    length = math.sqrt(signal) * math.sqrt(power)
    cosine = product / length if length else float(noise == 0)
    relative = errors / size if size else 0.0 if errors == 0 else math.inf
    return mse, largest, relative, decibels(signal, noise), cosine


def decibels(signal: float, noise: float) -> float:
    """Return 10·log10(signal / noise) of two sums of squares: infinite without noise, NaN if one is, -infinite without signal."""
    if noise == 0:
        return math.inf
    if math.isnan(noise) or math.isnan(signal):
        return math.nan
    return 10 * (math.log10(signal) - math.log10(noise)) if signal and math.isfinite(noise) else -math.inf


def _zipped(reference: Sequence[Outputs], candidate: Sequence[Outputs]) -> zip[tuple[Outputs, Outputs]]:
    if len(reference) != len(candidate):
        message = f"the variant gave outputs for {len(candidate)} feeds, the reference for {len(reference)}"
        raise DataError(message)
    return zip(reference, candidate, strict=True)


def _paired(number: int, reference: Outputs, candidate: Outputs) -> zip[tuple[Array, Array]]:
    """Pair the outputs of one feed."""
    if isinstance(reference, Mapping) and isinstance(candidate, Mapping):
        names = list(reference)
        if set(names) != set(candidate):
            message = f"feed {number}: the variant's outputs are {', '.join(candidate)}, the reference's {', '.join(names)}"
            raise DataError(message)
        reference, candidate = [reference[name] for name in names], [candidate[name] for name in names]
    elif isinstance(reference, Mapping) or isinstance(candidate, Mapping) or len(reference) != len(candidate):
        message = (
            f"feed {number}: the variant has {len(candidate)} outputs, the reference {len(reference)}, or only one has names"
        )
        raise DataError(message)
    for index, (ref, x) in enumerate(zip(reference, candidate, strict=True)):
        if ref.shape != x.shape:
            message = f"feed {number}, output {index}: the variant's shape is {list(x.shape)}, the reference's {list(ref.shape)}"
            raise DataError(message)
    return zip(reference, candidate, strict=True)
