"""What data look like: one pass finds ranges, moments, a draw of values, and which samples are equal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.quantize.data.feeds import add_to

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from harness.quantize.data.sources import Array, Feed

# Values drawn from each input of each feed, at places of its own: enough to tell distributions apart, little to keep.
DRAWN = 256
# With more feeds than that, only so many are drawn from.
DRAWN_FEEDS = 4096


@dataclass
class Look:
    """What the values of one input look like, over all samples.

    Attributes:
        dtype: numpy's name of it.
        elements: of one feed, the largest.
        least: the smallest finite value; most: the largest. With no finite value, least is above most.
        strange: number of values that are NaN or infinite, and the first feed that has some.
        draws: some values of each feed, as float64.
    """

    dtype: str
    elements: int = 0
    least: float = np.inf
    most: float = -np.inf
    strange: int = 0
    strange_at: int | None = None
    draws: list[NDArray[np.float64]] = field(default_factory=list, repr=False)

    @property
    def constant(self) -> bool:
        """Whether all values are the same."""
        return self.least == self.most

    @property
    def values(self) -> NDArray[np.float64]:
        """The values that were drawn, finite ones."""
        return np.concatenate(self.draws) if self.draws else np.zeros(0)

    def add(self, number: int, array: Array) -> None:
        """Look at one feed's array."""
        self.elements = max(self.elements, array.size)
        if array.dtype.kind == "f":
            finite = np.isfinite(array)
            if not finite.all():
                self.strange += int(array.size - np.count_nonzero(finite))
                self.strange_at = number if self.strange_at is None else self.strange_at
                array = array[finite]
        if not array.size:
            return
        self.least = min(self.least, float(array.min()))
        self.most = max(self.most, float(array.max()))
        if number < DRAWN_FEEDS:
            flat = array.reshape(-1)
            places = np.random.default_rng(number).integers(0, flat.size, min(DRAWN, flat.size))
            self.draws.append((flat[places] if flat.size > DRAWN else flat).astype(np.float64))


@dataclass
class Profile:
    """What a data set looks like.

    Attributes:
        digest: SHA-256, in hex, over names, dtypes, shapes and bytes of all arrays in order, and the labels.
        looks: of each input.
        feeds: hash of each feed's content.
    """

    digest: str
    looks: dict[str, Look]
    feeds: tuple[bytes, ...]


def profile(feeds: Iterable[Feed], labels: dict[str, Array]) -> Profile:
    """Go over the data once.

    Args:
        feeds: all of them.
        labels: what else the digest covers; it may be filled while the feeds are gone over.
    """
    digest = hashlib.sha256()
    looks: dict[str, Look] = {}
    seen = []
    for number, feed in enumerate(feeds):
        add_to(digest, feed)
        own = hashlib.sha256()
        add_to(own, feed)
        seen.append(own.digest())
        for name, array in feed.items():
            looks.setdefault(name, Look(array.dtype.name)).add(number, array)
    if labels:
        add_to(digest, labels)
    return Profile(digest.hexdigest(), looks, tuple(seen))
