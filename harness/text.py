"""Text from devices and models, made safe to show: characters that a terminal would obey or that XML forbids are replaced."""

from __future__ import annotations

KEPT = "\n\t\r\xa0"
REPLACED = "\ufffd"


def sanitize(words: str) -> str:
    """Replace control characters, terminal escapes, bidirectional marks, lone surrogates, and what XML 1.0 forbids with U+FFFD."""
    if words.isprintable():
        return words
    return "".join(letter if letter.isprintable() or letter in KEPT else REPLACED for letter in words)


def sanitize_all(said: object) -> object:
    """Apply :func:`sanitize` to every string and key of a JSON document."""
    if isinstance(said, str):
        return sanitize(said)
    if isinstance(said, list):
        return [sanitize_all(each) for each in said]
    if isinstance(said, dict):
        return {sanitize(key): sanitize_all(value) for key, value in said.items()}
    return said
