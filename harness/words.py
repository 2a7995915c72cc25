"""Words of devices and models, made fit for people: what a terminal would obey, or a text may not hold, is taken out."""

from __future__ import annotations

KEPT = "\n\t"
REPLACED = "\ufffd"


def readable(said: str) -> str:
    """Replace control characters, terminal escapes, marks that turn the direction of writing, and halves of characters."""
    if said.isprintable():
        return said
    return "".join(letter if letter.isprintable() or letter in KEPT else REPLACED for letter in said)


def all_readable(said: object) -> object:
    """As :func:`readable`, for every text in a JSON document."""
    if isinstance(said, str):
        return readable(said)
    if isinstance(said, list):
        return [all_readable(each) for each in said]
    if isinstance(said, dict):
        return {readable(key): all_readable(value) for key, value in said.items()}
    return said
