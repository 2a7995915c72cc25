"""Recognize files that another version of the harness wrote, which are not damaged."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import harness
from harness.text import sanitize

if TYPE_CHECKING:
    from pathlib import Path

MOST_WORDS = 100


def _object(found: object) -> dict[str, Any]:
    """A JSON object, from its text or as it is; an empty one if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(found) if isinstance(found, bytes) else found
    return found if isinstance(found, dict) else {}


def other_version(path: Path, content: bytes, reads: int, remedy: str) -> str | None:
    """Say that a file is of another version, if it says so itself.

    Args:
        path: of the file.
        content: JSON; its ``format`` is the version of its shape, its ``versions.harness`` the version that wrote it.
        reads: the format that this version reads.
        remedy: what to do with a file of an older version.

    Returns:
        A sentence with the next step; None if nothing tells of another version.
    """
    said = _object(content)
    found, name = said.get("format", reads), _object(said.get("versions")).get("harness")
    writer = f" (quant-harness {sanitize(name)[:MOST_WORDS]})" if isinstance(name, str) else ""
    here = f"this is quant-harness {harness.__version__}, which reads format {reads}"
    if type(found) is not int:
        return f"{path}: its format is {sanitize(repr(found))[:MOST_WORDS]}, and {here}: restore the file, or use the version that wrote it"
    if found > reads:
        return f"{path}: format {found!s:.20}, written by a newer version{writer}; {here}: upgrade this one"
    if found < reads:
        return f"{path}: format {found!s:.20}, written by an older version{writer}; {here}: {remedy}"
    if isinstance(name, str) and name != harness.__version__:
        return (
            f"{path}: written by another version{writer}, with content that this version does not know; {here}: use that version"
        )
    return None
