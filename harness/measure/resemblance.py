"""Whether outputs with dead slices resemble the reference's elsewhere, or are those of another model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.quantize.verify.sums import decibels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.quantize.verify.fidelity import Fidelity

# Two trainings of one architecture reach about 0 dB, a variant that can be used 10 dB and more.
LEAST_DB = 6.0


def unlike(
    reference: Sequence[Sequence[NDArray[Any]]],
    candidate: Sequence[Sequence[NDArray[Any]]],
    names: Sequence[str],
    found: Fidelity,
) -> list[str]:
    """Find the outputs whose living slices differ from the reference's as well.

    Args:
        reference: the outputs of each sample, in the order of names.
        candidate: the same of the variant.
        names: of the outputs.
        found: what came of comparing them.

    Returns:
        The names of outputs with dead slices whose other slices have an SQNR below LEAST_DB.
    """
    slices: dict[tuple[str, int], list[int]] = {}
    for part in found.dead:
        if part.kind == "slice" and part.axis is not None and part.first is not None and part.last is not None:
            slices.setdefault((part.output, part.axis), []).extend(range(part.first, part.last + 1))
    result = []
    for (name, axis), indices in slices.items():
        position = names.index(name)
        signal = noise = 0.0
        for left, right in zip(reference, candidate, strict=True):
            ref, x = (np.delete(side[position], indices, axis=axis).astype(np.float64) for side in (left, right))
            known = np.isfinite(ref) & np.isfinite(x)
            signal += float(np.sum(ref[known] ** 2))
            noise += float(np.sum((ref[known] - x[known]) ** 2))
        if signal and decibels(signal, noise) < LEAST_DB:
            result.append(name)
    return list(dict.fromkeys(result))
