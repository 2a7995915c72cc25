"""Packs the times of a block in about two bytes each."""

from __future__ import annotations

import base64
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol_runner import Samples

# A sample is kept to at least 1/RESOLUTION of its block's median; the highest bit of a byte says that another group of seven follows.
RESOLUTION, CONTINUED = 8192, 128


def encode(samples: list[int]) -> Samples:
    """Pack nanoseconds in about two bytes each: steps of at most 1/8192 of the median from it, as Protocol Buffers' sint64, in base64."""
    base = int(statistics.median(samples))
    unit = 1 << max(0, (base // RESOLUTION).bit_length() - 1)
    # A multiple of the unit: no rounding leads below zero.
    base -= base % unit
    packed = bytearray()
    for sample in samples:
        steps = (sample - base + unit // 2) // unit
        value = 2 * steps if steps >= 0 else -2 * steps - 1
        while value >= CONTINUED:
            packed.append(value % CONTINUED | CONTINUED)
            value >>= 7
        packed.append(value)
    return {"base": base, "unit": unit, "count": len(samples), "data": base64.b64encode(packed).decode()}
