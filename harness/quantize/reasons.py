"""Why something failed, in one line that can stand in a table."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # has no stubs

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 300  # characters
# Lines of onnxruntime's messages that only carry a trace or an empty heading.
NOISE = re.compile(r"^\s*(?:=+|-+|Traceback|File \"|In Node,.*|stack trace.*)?\s*$", re.IGNORECASE)

INNERMOST = "Status Message: "
# Where in onnxruntime's sources a message comes from: a file, a line and a function's whole signature.
SOURCE_PLACE = re.compile(
    r"/onnxruntime_src/\S+:\d+ [^()]*(?:\((?:[^()]|\([^()]*\))*\)(?: const)?[^() ]*)+ (?:\[with [^\]]*\] )?"
)
STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")  # the class says it, too


class RecipeError(Exception):
    """A recipe does not suit the model; its message says why."""


def reason_of(exc: BaseException, folders: Iterable[Path] = ()) -> str:
    """Describe an exception.

    Args:
        exc: what was raised.
        folders: temporary ones, whose paths would tell the reader nothing.

    Returns:
        The class's name and the first line that says something, or else where it was raised, at most 300 characters; a
        :class:`RecipeError` speaks for itself.
    """
    # onnxruntime wraps the message of an inner node in that of each outer one.
    said = str(exc).rpartition(INNERMOST)[2]
    lines = [line.strip() for line in said.splitlines() if not NOISE.match(line)]
    text = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    text = SOURCE_PLACE.sub("", STATUS.sub("", text))
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(str(folder), "")
    if isinstance(exc, EncodeError):
        text += ": the tool wants the model in one message, and Protocol Buffers hold none of 2 GB and more"
    if not text and (frames := traceback.extract_tb(exc.__traceback__)):
        text = f"in {frames[-1].name} of {Path(frames[-1].filename).name}"
    if not isinstance(exc, RecipeError):
        text = f"{type(exc).__name__}: {text}"
    return text if len(text) <= LIMIT else f"{text[: LIMIT - 1]}…"
