"""Words of devices and models, made fit for people: what a terminal would obey, or a text may not hold, is taken out."""

from __future__ import annotations

KEPT = "\n\t\r\xa0"
REPLACED = "\ufffd"


def plain(words: str) -> str:
    """Replace control characters, terminal escapes, marks that turn the direction of writing, halves of characters, and what XML 1.0 forbids."""
    if words.isprintable():
        return words
    return "".join(letter if letter.isprintable() or letter in KEPT else REPLACED for letter in words)


def all_plain(said: object) -> object:
    """As :func:`plain`, for every text in a JSON document."""
    if isinstance(said, str):
        return plain(said)
    if isinstance(said, list):
        return [all_plain(each) for each in said]
    if isinstance(said, dict):
        return {plain(key): all_plain(value) for key, value in said.items()}
    return said
