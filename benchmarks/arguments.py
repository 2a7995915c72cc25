"""Arguments of benchmarks as types for argparse: a wrong one ends the program before anything is measured, with exit 2.

Each function that reads an argument raises ArgumentTypeError with what is wrong.
"""

from __future__ import annotations

import json
import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.measure.launch import Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

NONE = "none"
DIGITS = 6


def at_least(least: int) -> Callable[[str], int]:
    """A function that reads a whole number of at least ``least``."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            message = f"'{text}' is not a whole number of at least {least}"
            raise ArgumentTypeError(message)
        return int(text)

    return read


def some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """A function that reads names separated by commas; 'none' gives an empty list."""

    def read(text: str) -> list[str]:
        names = [] if text == NONE else [name.strip() for name in text.split(",")]
        if wrong := [name for name in names if name not in known]:
            message = f"'{wrong[0]}' is unknown; known: {', '.join(known)}; or none"
            raise ArgumentTypeError(message)
        return names

    return read


def writable(text: str) -> Path:
    """Read the path of a file that can be written."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        message = f"{path}: no file can be written there"
        raise ArgumentTypeError(message)
    return path


def cells_of(text: str) -> dict[str, list[tuple[dict[str, Any], float]]]:
    """Read what ``validity.py --keep`` wrote: for each cell, the launches and their seconds."""
    try:
        found = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        message = f"{text}: can't be read: {exc}"
        raise ArgumentTypeError(message) from exc
    cells = found.items() if isinstance(found, dict) else ()
    if not cells or not all(", " in cell and _are_launches(launches) for cell, launches in cells):
        message = f"{text}: this is not what validity.py --keep writes"
        raise ArgumentTypeError(message)
    return dict(cells)


def _are_launches(found: Any) -> bool:  # noqa: ANN401 - whatever JSON can say
    """Whether these are pairs of a launch and its seconds. Only the first launch is validated: a file of another version fails there."""
    try:
        pairs = [(dict(line), float(seconds)) for line, seconds in found]
        Launch.model_validate({**pairs[0][0], "device": "here", "round": 0})
    except (TypeError, ValueError, IndexError):
        return False
    return True


def rounded(found: Any) -> Any:  # noqa: ANN401 - whatever JSON can say
    """Round every float of a JSON document to six significant digits."""
    if isinstance(found, float):
        return float(f"{found:.{DIGITS}g}")
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    return [rounded(each) for each in found] if isinstance(found, list | tuple) else found
