"""Format numbers for readers: sizes, figures with their intervals, shares, counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.judge.counts import Count
    from harness.judge.intervals import Estimate

UNKNOWN = "–"
# Above this, a number is easier to read with an exponent.
PLAIN = 1e7
# Per cent; a smaller spread is not told apart.
LEAST_SPREAD = 0.001


def size(count: int | None) -> str:
    """Bytes in kB or MB (powers of ten)."""
    if count is None:
        return UNKNOWN
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"  # noqa: PLR2004 - the units' own size


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits."""
    if value is None:
        return UNKNOWN
    if value == 0 or 10**-digits <= abs(value) < 10**digits:
        return f"{value:#.{digits}g}".rstrip(".")
    if 1 <= abs(value) < PLAIN:
        return f"{value:.0f}"
    return f"{value:.{digits - 1}e}"


def estimate(value: Estimate | None, unit: str = "") -> str:
    """A value with its interval, or with [?] without one."""
    if value is None:
        return UNKNOWN
    # Enough digits to tell the interval's ends apart.
    half = value.half_width
    digits = min(6, max(3, 1 - math.floor(math.log10(half)))) if half else 3
    if value.low is None or value.high is None:
        return f"{number(value.value, digits)}{unit} [?]"
    return f"{number(value.value, digits)}{unit} [{number(value.low, digits)}, {number(value.high, digits)}]"


def percent(value: float | None) -> str:
    """A share in per cent."""
    return UNKNOWN if value is None else f"{100 * value:.2f} %"


def points(value: float | None) -> str:
    """A difference of shares in percentage points."""
    return UNKNOWN if value is None else f"{100 * value:+.2f} pp" if value else "0.00 pp"


def share(ratio: float | None) -> str:
    """A share as a number."""
    return UNKNOWN if ratio is None else f"{ratio:.3f}"


def millions(found: Count | None) -> str:
    """A count in millions with half the observed spread."""
    if found is None:
        return UNKNOWN
    if found.spread is None:
        return f"{found.value:.2f} [?]"
    half = 50 * found.spread
    return f"{found.value:.2f} ±{f'{half:.2g}' if half >= LEAST_SPREAD else f'<{LEAST_SPREAD}'} %"
