"""Words for people: text from devices and models made safe to show, and shares in per cent."""

from __future__ import annotations

KEPT = "\n\t\r\xa0"
REPLACED = "\ufffd"
# Per cent: from here on without a decimal; below the other one, no figure is worth telling.
WHOLE_PERCENT, LEAST_PERCENT = 9.95, 0.001


def sanitize(words: str) -> str:
    """Replace control characters, terminal escapes, bidirectional marks, lone surrogates, and what XML 1.0 forbids with U+FFFD."""
    if words.isprintable():
        return words
    return "".join(letter if letter.isprintable() or letter in KEPT else REPLACED for letter in words)


def percent(share: float) -> str:
    """A share in per cent with two significant digits and no exponent: ``0.5 %``, ``4.2 %``, ``390 %``."""
    number = 100 * share
    if 0 < abs(number) < LEAST_PERCENT:
        return f"<{LEAST_PERCENT} %"
    return f"{number:.0f} %" if abs(number) >= WHOLE_PERCENT else f"{number:.2g} %"


def sanitize_all(said: object) -> object:
    """Apply :func:`sanitize` to every string and key of a JSON document."""
    if isinstance(said, str):
        return sanitize(said)
    if isinstance(said, list):
        return [sanitize_all(each) for each in said]
    if isinstance(said, dict):
        return {sanitize(key): sanitize_all(value) for key, value in said.items()}
    return said
