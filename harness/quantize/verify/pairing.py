"""Outputs of two models, paired by output over all feeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

Array = NDArray[Any]
Outputs = Mapping[str, Array] | Sequence[Array]
Pair = tuple[Array, Array]
TABLE_RANK = 2
# Outputs of feeds that follow each other are joined up to this many values: 1,000 feeds of ten values are not 1,000 times the calls.
JOINED_VALUES = 1 << 16


class ShapeError(DataError):
    """An output has another shape in the variant than in the reference."""


@dataclass(frozen=True)
class PairedOutput:
    """One output of both models.

    Attributes:
        name: of the output.
        pairs: for each feed the reference's values and the candidate's, of the same shape.
        batched: the first axis of each is the batch, so that each row is a sample; otherwise each feed is one sample.
        starts: for each feed the number of its first sample.
    """

    name: str
    pairs: list[Pair]
    batched: bool
    starts: list[int]

    @property
    def is_float(self) -> bool:
        """Whether the reference's values are floating-point in all feeds."""
        return bool(self.pairs) and all(ref.dtype.kind == "f" for ref, _ in self.pairs)

    def samples(self) -> Iterator[Pair]:
        """Go over the values as [samples, …]; small feeds that follow each other come as one."""
        return joined(self.pairs if self.batched else ((ref[None], x[None]) for ref, x in self.pairs))

    def sample(self, position: int) -> int:
        """The number of a sample over all feeds, by its position in :meth:`samples`."""
        return position if self.batched else self.starts[position]


def pair(
    reference: Sequence[Outputs], candidate: Sequence[Outputs], names: Sequence[str] | None = None, batch: int | None = None
) -> list[PairedOutput]:
    """Pair the outputs of two models.

    Args:
        reference: for each feed the outputs of the float model, by name or in order.
        candidate: the same of the variant.
        names: of the outputs, where they come in order; otherwise they are numbered.
        batch: how many samples each feed holds: the leading size that the model's inputs share. An output has the batch as its
            first axis if that has this size in every feed. Without, the outputs decide: the first axis is the batch where all
            outputs of two and more axes agree in its size.

    Raises:
        DataError: if the outputs differ in number, name or shape.
    """
    if len(reference) != len(candidate):
        message = f"the variant gave outputs for {len(candidate)} feeds, the reference for {len(reference)}"
        raise DataError(message)
    feeds = [_paired(number, ref, x) for number, (ref, x) in enumerate(zip(reference, candidate, strict=True))]
    if not feeds:
        return []
    if any(len(feed) != len(feeds[0]) for feed in feeds):
        message = "the number of outputs differs from feed to feed"
        raise DataError(message)
    sizes = [batch if batch is not None else _batch(feed) for feed in feeds]
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + (size or 1))
    first = reference[0]
    called = list(first) if isinstance(first, Mapping) else names or [f"output {index}" for index in range(len(feeds[0]))]
    return [
        PairedOutput(
            name,
            pairs,
            batched=all(ref.ndim > 0 and len(ref) == size for (ref, _), size in zip(pairs, sizes, strict=True)),
            starts=starts[:-1],
        )
        for name, pairs in zip(called, (list(each) for each in zip(*feeds, strict=True)), strict=True)
    ]


def joined(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Join pairs that follow each other along their first axis, where types and the other axes are the same; large ones stay as they are."""
    held: list[Pair] = []
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


def batch_of(feed: Mapping[str, Array]) -> int | None:
    """Find how many samples a feed holds: the leading size of its inputs of two and more axes, where they agree; None if they do not."""
    sizes = {len(value) for value in feed.values() if value.ndim >= TABLE_RANK}
    return sizes.pop() if len(sizes) == 1 else None


def _batch(feed: Sequence[Pair]) -> int | None:
    """The size of the first axis of all outputs of two and more axes; None if they differ in it, or there are none."""
    sizes = {len(ref) for ref, _ in feed if ref.ndim >= TABLE_RANK}
    return sizes.pop() if len(sizes) == 1 else None


def _as_one(pairs: Sequence[Pair]) -> Pair:
    return pairs[0] if len(pairs) == 1 else (np.concatenate([ref for ref, _ in pairs]), np.concatenate([x for _, x in pairs]))


def _paired(number: int, reference: Outputs, candidate: Outputs) -> list[Pair]:
    """Pair the outputs of one feed."""
    called = [f"output {index}" for index in range(len(reference))]
    if isinstance(reference, Mapping) and isinstance(candidate, Mapping):
        names = list(reference)
        if set(reference) != set(candidate):
            message = f"feed {number}: the variant's outputs are {', '.join(candidate)}, the reference's {', '.join(reference)}"
            raise DataError(message)
        called = [f"output '{name}'" for name in names]
        reference, candidate = [reference[name] for name in names], [candidate[name] for name in names]
    elif isinstance(reference, Mapping) or isinstance(candidate, Mapping) or len(reference) != len(candidate):
        message = (
            f"feed {number}: the variant has {len(candidate)} outputs, the reference {len(reference)}, or only one has names"
        )
        raise DataError(message)
    for name, ref, x in zip(called, reference, candidate, strict=True):
        if ref.shape != x.shape:
            message = f"feed {number}, {name}: the variant's shape is {list(x.shape)}, the reference's {list(ref.shape)}"
            raise ShapeError(message)
    return list(zip(reference, candidate, strict=True))
