"""What is wrong with data that can be read and fed: said in words, with what was seen, what it does, and the next step.

The figures of damage were measured with static QDQ U8S8: on the digits model (``harness run studies/digits/calibration.toml``; with normalised
inputs ``studies/digits/normalised.toml``), and on another small CNN, trained on normalised images (97 % calibrated with real ones).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from harness.quantize.data.load import Samples
    from harness.quantize.data.profile import Look
    from harness.quantize.model.model import SourceModel

# Fewer rows than this, and chance decides the ranges: one image cost the digits model 13 to 19 dB, eight up to 6.
FEW = 8
# Of the evaluation values; a few always lie beyond what calibration saw.
OUTSIDE = 0.05
# The calibrated range against the evaluation's: 8 times as wide leaves 5 of 8 bits.
WIDER = 8.0
STEPS = 256
BYTE = 255
# What each fault did to a model.
ZEROS = "zeros took the digits model from 99.7 % to 52 %, and to 10 % where its inputs are normalised"
NOISE = "with normalised inputs, noise of 0 to 1 took one model from 97 % to 15 % and the digits model from 99.7 % to 16 %"
UNSEEN = "what they lead to in the model was not seen in calibration"
CLASSIFIER = 2  # axes of an output [rows, classes]
GUESSING_ROWS = 50


@dataclass(frozen=True)
class Side:
    """Data, and what sentences call them."""

    name: str
    samples: Samples


def calibration(given: Side, evaluation: Samples | None) -> tuple[str, ...]:
    """Look at calibration data, and compare them with what the variants are judged by.

    Args:
        given: the calibration data.
        evaluation: the evaluation data; None if there are none beside them.
    """
    looks = given.samples.profile.looks
    found = [*_few(given), *_equal(given), *_empty(given, evaluation)]
    if evaluation is None or evaluation.random:
        return (*found, *(text for name, look in looks.items() for text in _constant(given, name, look, None)))
    for name, look in looks.items():
        other = evaluation.profile.looks.get(name)
        if other is None or not other.values.size or not look.values.size:
            continue
        found += list(_constant(given, name, look, other)) or list(_ranges(given, name, look, other))
    return (*found, *_leak(given, evaluation))


def evaluation(samples: Samples, model: SourceModel) -> tuple[str, ...]:
    """Look at evaluation data: numbers that are none, samples that are equal, labels beyond the model's classes."""
    side = Side("the evaluation data", samples)
    found = list(_equal(side))
    for name, look in samples.profile.looks.items():
        if look.strange_at is not None:
            found.append(
                f"{side.name}: '{name}' of sample {look.strange_at} holds NaN or infinity ({look.strange} values in all): MSE and SQNR "
                "over them mean nothing; remove these samples"
            )
    classes = classes_of(model)
    if samples.labels is not None and classes is not None:
        found += _labels(samples.labels, classes)
    return tuple(found)


def guessing(accuracy: float | None, rows: int, classes: int | None) -> tuple[str, ...]:
    """Look at the float model's own accuracy: whether it is one of guessing.

    Args:
        accuracy: share of rows that fp32 gets right; None without labels.
        rows: of the evaluation data.
        classes: of the model.
    """
    if accuracy is None or classes is None or rows < GUESSING_ROWS:
        return ()
    chance = 1 / classes
    if accuracy > chance + 2 * math.sqrt(chance * (1 - chance) / rows):
        return ()
    return (
        (
            f"fp32 itself gets {100 * accuracy:.1f} % of the evaluation data right, no better than guessing among {classes} classes: the labels, or how "
            "the inputs were prepared, do not suit the model, and no variant's accuracy means anything until they do"
        ),
    )


def classes_of(model: SourceModel) -> int | None:
    """The number of classes, if the only output is a table [rows, classes] of a fixed width; further axes of size 1 are dropped."""
    shape = model.outputs[0].shape if len(model.outputs) == 1 else ()
    shape = (*shape[:1], *(size for size in shape[1:] if size != 1))
    last = shape[-1] if len(shape) == CLASSIFIER else None
    return last if isinstance(last, int) and last > 1 else None


def _few(given: Side) -> Iterator[str]:
    rows = len(given.samples.feeds) * _batch(given.samples)
    if rows < FEW:
        yield (
            f"{given.name}: only {rows} sample{'s' if rows > 1 else ''}: chance decides the ranges of static variants (one image in the place "
            "of 128 cost the digits model 13 to 19 dB of SQNR, while its accuracy stayed); give 64 or more"
        )


def _empty(given: Side, evaluation: Samples | None) -> Iterator[str]:
    """Find inputs that hold no values in any sample, and do in the evaluation data."""
    for name, look in given.samples.profile.looks.items():
        other = evaluation.profile.looks.get(name) if evaluation is not None else None
        if look.elements == 0 and (other is None or other.elements > 0):
            yield (
                f"{given.name}: '{name}' is empty in every sample (a size is 0): static variants get no range for it, and round its values "
                "to whole numbers; give samples in which it has values, too"
            )


def _equal(given: Side) -> Iterator[str]:
    total = len(given.samples.profile.feeds)
    distinct = len(set(given.samples.profile.feeds))
    constant = all(look.constant for look in given.samples.profile.looks.values())
    if total > 1 and distinct <= total // 2 and not constant:
        seen = "all of them are the same" if distinct == 1 else f"only {distinct} of them are different"
        yield f"{given.name}: {total} samples, and {seen}: they count as {distinct}; see how they were collected"


def _constant(given: Side, name: str, look: Look, other: Look | None) -> Iterator[str]:
    """Find an input that never varies, and does in earnest, or is too large to be a setting."""
    if not look.constant or (other is not None and other.constant and other.least == look.least):
        return
    seen = f"{given.name}: every value of '{name}' is {look.least:g}"
    floats = look.dtype.startswith("float")
    if other is None:
        if floats and look.elements > 1:
            yield f"{seen}: static variants get no range for it ({ZEROS}); give values as they will come"
        return
    effect = f"static variants get no range for it ({ZEROS})" if floats else UNSEEN
    yield f"{seen}; in the evaluation data it {_spoken(other)}: {effect}; calibrate with real samples"


def _ranges(given: Side, name: str, look: Look, other: Look) -> Iterator[str]:
    """Compare the ranges of an input."""
    values = other.values
    # A quantized range takes in zero, and reaches half a step further on either side.
    least, most = min(look.least, 0.0), max(look.most, 0.0)
    step = (most - least) / STEPS
    outside = float(np.mean((values < least - step) | (values > most + step)))
    seen = f"{given.name}: '{name}' {_spoken(look)}; in the evaluation data it {_spoken(other)}"
    floats = look.dtype.startswith("float")
    if outside > OUTSIDE:
        effect = f"static variants cut them off{_unnormalised(look, other)} ({NOISE})" if floats else UNSEEN
        yield f"{seen}: {100 * outside:.0f} % of these values lie outside: {effect}; prepare both the same way"
        return
    width, own = other.most - other.least, most - least
    if floats and width > 0 and own > WIDER * width:
        left = max(1, round(STEPS * width / own))
        yield (
            f"{seen}: {own / width:.3g} times as wide, so that {left} of the {STEPS} steps of 8 bits are left for real values"
            f"{_unnormalised(look, other)} (9 times as wide cost the digits model 5 dB of SQNR, 255 times took it from 99.7 % to 10 %); "
            "prepare both the same way, or remove outliers"
        )


def _unnormalised(look: Look, other: Look) -> str:
    """Name the likely reason, if the ranges tell it."""
    for top, words in ((1.0, "0 to 1"), (float(BYTE), f"0 to {BYTE}")):
        if look.least >= 0 and top / 2 < look.most <= top:
            if other.least < 0:
                return f"; values of {words} look like pixels that were not normalised"
            if other.most <= 1 < look.most:
                return f"; values of {words} look like pixels that were not scaled"
    return ""


def _leak(given: Side, evaluation: Samples) -> Iterator[str]:
    seen = set(evaluation.profile.feeds)
    shared = sum(feed in seen for feed in given.samples.profile.feeds)
    total = len(given.samples.profile.feeds)
    constant = all(look.constant for look in given.samples.profile.looks.values())
    if shared and not constant:
        how = "all" if shared == total else f"{shared} of"
        yield (
            f"{given.name}: {how} {total} samples are evaluation samples, too: static variants were calibrated on them, so their accuracy on "
            "new data may be lower; calibrate with other data, such as training data"
        )


def _labels(labels: NDArray[np.int64], classes: int) -> Iterator[str]:
    wrong = (labels < 0) | (labels >= classes)
    if not wrong.any():
        return
    first = int(np.argmax(wrong))
    counted = " (they seem to be counted from 1)" if labels.min() == 1 and labels.max() == classes else ""
    yield (
        f"the evaluation data: {int(wrong.sum())} of {len(labels)} labels are not among the model's {classes} classes, 0 to {classes - 1}{counted}; "
        f"the first is {int(labels[first])}, of row {first}: no variant can get them right; number the classes from 0 as the model does"
    )


def _spoken(look: Look) -> str:
    values = look.values
    if look.constant:
        return f"is always {look.least:g}"
    return f"lies in {look.least:.4g} … {look.most:.4g} (mean {values.mean():.3g}, standard deviation {values.std():.3g})"


def _batch(samples: Samples) -> int:
    """Rows of a feed, as far as the first one tells."""
    return next((array.shape[0] for array in samples.feeds[0].values() if array.ndim and array.shape[0]), 1)
