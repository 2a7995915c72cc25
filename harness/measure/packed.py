"""The packed samples of a block: differences to a base, in groups of seven bits."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The highest bit of a byte: another group follows. No number is longer than nine of them, so that it fits into 63 bits.
CONTINUED, MOST_GROUPS = 128, 9
DAMAGED = "the samples are damaged"


class Samples(BaseModel):
    """A block's iterations, packed: zigzag 7-bit groups of (nanoseconds - base) / unit, in base64."""

    model_config = ConfigDict(frozen=True)

    base: Annotated[int, Field(ge=0, lt=2**63)]
    unit: Annotated[int, Field(ge=1, lt=2**40)]
    count: Annotated[int, Field(ge=1, le=10_000_000)]
    data: Annotated[str, Field(max_length=100_000_000)]

    @property
    def nanoseconds(self) -> NDArray[np.int64]:
        """The iterations, each to at least 1/8192 of the block's median, int64 of [count].

        Raises:
            ValueError: if there are more, fewer, longer or shorter ones than could be.
        """
        steps = decode(base64.b64decode(self.data, validate=True), self.count)
        least, most = (self.base + self.unit * int(step) for step in (steps.min(), steps.max()))
        if least < 0 or most >= 1 << 63:
            raise ValueError(DAMAGED)
        return steps * self.unit + self.base

    @model_validator(mode="after")
    def _is_whole(self) -> Samples:
        _ = self.nanoseconds
        return self


def decode(data: bytes, count: int) -> NDArray[np.int64]:
    """Read zigzag numbers in groups of seven bits, the lowest first.

    Protocol buffers have them so: sint64 in https://protobuf.dev/programming-guides/encoding/.

    Returns:
        int64 of [count].

    Raises:
        ValueError: if they are not so many, or one has too many groups.
    """
    if len(data) > MOST_GROUPS * count:
        raise ValueError(DAMAGED)
    groups = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(groups < CONTINUED)
    if len(ends) != count or ends[-1] != len(groups) - 1:
        raise ValueError(DAMAGED)
    starts = np.concatenate(([0], ends[:-1] + 1))
    longest = int((ends - starts).max()) + 1
    if longest > MOST_GROUPS:
        raise ValueError(DAMAGED)
    values = np.zeros(count, np.int64)
    for place in range(longest):
        # Nothing is as long as all groups together, of which a board could send many.
        there = np.flatnonzero(ends - starts >= place)
        values[there] |= (groups[starts[there] + place] & 127).astype(np.int64) << (7 * place)
    return (values >> 1) ^ -(values & 1)
