"""Whether a variant names the same classes as fp32, and the right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError
from harness.quantize.verify.divergence import MIN_CLASSES
from harness.quantize.verify.pairing import Array, Pair, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TABLE_RANK = 2


def top1(tables: Sequence[Pair], labels: NDArray[np.int64] | None) -> tuple[float | None, float | None]:
    """Compute the share of rows whose largest class is fp32's, and the share whose largest class is the label.

    A row of NaN, or of nothing but -infinity, names no class: in the variant it agrees with nothing and is never right, and rows
    that are such in fp32 are left out of the agreement.

    Args:
        tables: [rows, classes] of the reference and of the variant, for each feed.
        labels: class of each row, or None.

    Returns:
        Agreement and accuracy; None without a table in each feed, and without labels.

    Raises:
        DataError: if the labels are not one for each row.
    """
    if not tables or not all(ref.ndim == TABLE_RANK and ref.shape[1] >= MIN_CLASSES and len(ref) for ref, _ in tables):
        return None, None
    pairs = list(joined(tables))
    truth, guess = (np.concatenate([_largest(pair[side]) for pair in pairs]) for side in (0, 1))
    known = truth >= 0
    agreement = float(np.mean((truth == guess)[known])) if known.any() else None
    if labels is None:
        return agreement, None
    if len(labels) != len(guess):
        message = f"{len(labels)} labels for {len(guess)} rows of outputs; give one label for each row"
        raise DataError(message)
    return agreement, float(np.mean((guess == labels) & (guess >= 0)))


def _largest(rows: Array) -> NDArray[np.int64]:
    """The class of each row; -1 where it names none."""
    best = rows.max(axis=1)  # NaN where any is
    return np.where(best > -np.inf, rows.argmax(axis=1), -1).astype(np.int64)
