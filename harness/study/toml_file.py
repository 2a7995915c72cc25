"""Read TOML into a checked model; errors name the line and the nearest known key.

``tomllib`` tells no line numbers, so :func:`line_of` finds them in the text.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from harness import paths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.errors import UsageError

ModelT = TypeVar("ModelT", bound=BaseModel)
Location = tuple[str | int, ...]
# What pydantic puts into a place beside the names of keys: it speaks of a key itself, or of one of the forms of a value.
MARKS = ("[key]", "[text]", "[table]")


class Section(BaseModel):
    """A table of a file: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        """The keys that may stand in the table."""
        return tuple(_by_alias(cls))


def parse(path: Path, error: type[UsageError]) -> tuple[dict[str, Any], str]:
    """Read a TOML file.

    Returns:
        The table, and the file's text.

    Raises:
        UsageError: of the given type, if the file is missing, unreadable or not TOML.
    """
    try:
        paths.refuse_stream(path, error)
        # Windows' Notepad begins a file with a byte-order mark.
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text), text
    except FileNotFoundError:
        message = f"{path}: no such file"
    except OSError as exc:
        message = f"{path}: can't be read: {exc.strerror}"
    except UnicodeDecodeError:
        message = f"{path}: not a TOML file: it is not UTF-8 text"
    except RecursionError:
        message = f"{path}: not valid TOML: its values are nested too deeply"
    except ValueError as exc:
        # TOMLDecodeError is one; a number with thousands of digits raises another.
        message = f"{path}: not valid TOML: {exc}"
    raise error(message)


def validate(model: type[ModelT], table: dict[str, Any], path: Path, text: str, error: type[UsageError]) -> ModelT:
    """Check a table against its model.

    Raises:
        UsageError: of the given type; one line for each fault: file, line, key, what is wrong, the nearest known key.
    """
    try:
        return model.model_validate(table)
    except ValidationError as exc:
        message = faults(model, exc, path, text)
    raise error(message)


def faults(model: type[BaseModel], error: ValidationError, path: Path, text: str, above: Location = ()) -> str:
    """Put a failed validation in words, one line for each fault.

    Args:
        model: what was asked of the table.
        error: how it failed.
        path: the file.
        text: the file's text.
        above: the table's own place in the file.
    """
    lines = [_describe(model, fault, path, text, above) for fault in error.errors()]
    return "\n".join(dict.fromkeys(lines))


def line_of(text: str, location: Location) -> int | None:
    """Find the 1-based line of a key.

    Args:
        text: the TOML file.
        location: keys and list indices from the root, as in pydantic's ``loc``.
    """
    names = [part for part in location if isinstance(part, str)]
    index = next((part for part in location if isinstance(part, int)), 0)
    table: list[str] = []
    seen: dict[str, int] = {}
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            table = [part.strip(" \"'") for part in header[2].split(".")]
            if header[1] == "[[":
                seen[header[2]] = seen.get(header[2], -1) + 1
                if seen[header[2]] != index and names[: len(table)] == table:
                    table = ["\0"]
            here = table
        elif key := re.match(r"""\s*("[^"]+"|'[^']+'|[\w.-]+)\s*=""", line):
            here = table + [part.strip("\"'") for part in key[1].split(".")]
            # An inline table keeps its keys on the line of its own key.
            rest = names[len(here) :]
            if names[: len(here)] == here and rest and re.search(rf"\b{re.escape(rest[0])}\b", line):
                here = names[: len(here) + 1]
        else:
            continue
        depth = len(here)
        if names[:depth] == here and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None


def nearest(name: str, known: Sequence[str]) -> str:
    """Say which known name is meant, or list them all.

    Returns:
        ``did you mean 'x'?`` or ``known: a, b, c``.
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


def _describe(model: type[BaseModel], fault: Any, path: Path, text: str, above: Location) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    """One fault of a validation, as a line."""
    location: Location = tuple(part for part in fault["loc"] if part not in MARKS)
    number = line_of(text, above + location)
    place = f"{path}:{number}" if number else f"{path}"
    names = ".".join(str(part) for part in above + location)
    if fault["type"] == "extra_forbidden":
        known = _keys(model, location[:-1])
        return f"{place}: unknown key '{names}'; {nearest(str(location[-1]), known)}"
    if fault["type"] == "missing":
        return f"{place}: '{names}' is missing"
    message = fault["msg"].removeprefix("Value error, ")
    given = fault["input"]
    shown = "" if isinstance(given, dict) or fault["type"] == "value_error" else f", not {given!r}"
    return f"{place}: '{names}': {message[:1].lower()}{message[1:]}{shown}"


def _keys(model: type[BaseModel], location: Location) -> list[str]:
    """List the keys that are known at a location."""
    for part in location:
        if isinstance(part, int) or part not in _by_alias(model):
            continue
        inner = _model_in(_by_alias(model)[str(part)])
        if inner is not None:
            model = inner
    return list(model.known_keys() if issubclass(model, Section) else _by_alias(model))


def _by_alias(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - an annotation has no narrower type
    """Find the pydantic model inside an annotation such as ``list[Model]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
