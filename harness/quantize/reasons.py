"""Why something failed, in one line that can stand in a table."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # has no stubs
from onnx import NodeProto

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOOLS = frozenset({"onnx", "onnx_ir", "onnxruntime", "onnxconverter_common", "neural_compressor"})
LIMIT = 300  # characters
# Lines of onnxruntime's messages that only carry a trace or an empty heading.
NOISE = re.compile(r"^\s*(?:=+|-+|Traceback|File \"|In Node,.*|stack trace.*)?\s*$", re.IGNORECASE)

INNERMOST = "Status Message: "
# Where in onnxruntime's sources a message comes from: a file, a line and a function's whole signature.
SOURCE_PLACE = re.compile(
    r"/onnxruntime_src/\S+:\d+ [^()]*(?:\((?:[^()]|\([^()]*\))*\)(?: const)?[^() ]*)+ (?:\[with [^\]]*\] )?"
)
# What onnx's C++ side puts before the message of a failed assertion.
ASSERTION = re.compile(r"\S*/onnx/\S+:\d+: [^`]*Assertion `[^`]*` failed: ?")
STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")  # the class says it, too


class RecipeError(Exception):
    """A recipe does not suit the model; its message says why."""


def reason_of(exc: BaseException, folders: Iterable[Path] = ()) -> str:
    """Describe an exception.

    Args:
        exc: what was raised.
        folders: temporary ones, whose paths would tell the reader nothing.

    Returns:
        The class's name and the first line that says something, or else where it was raised, at most 300 characters. Where
        Python raised it inside of onnx or onnxruntime, the tool and the node that it was at work on come first: the rest alone
        would tell a user nothing. A :class:`RecipeError` speaks for itself.
    """
    text = raw_text(exc, folders)
    tool = _tool_at(exc)
    if tool is None or isinstance(exc, RecipeError) or type(exc).__module__ != "builtins":
        return text
    node = next(_nodes(exc), None)
    at = f" at node '{node.name or node.output[0]}' ({node.op_type})" if node is not None and node.output else ""
    return f"{tool} fails{at} ({text})"


def raw_text(exc: BaseException, folders: Iterable[Path] = ()) -> str:
    """Give an exception's class and the first line that says something, as :func:`reason_of`, without the tool and the node."""
    # onnxruntime wraps the message of an inner node in that of each outer one.
    said = str(exc).rpartition(INNERMOST)[2]
    lines = [line.strip() for line in said.splitlines() if not NOISE.match(line)]
    text = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    text = ASSERTION.sub("", SOURCE_PLACE.sub("", STATUS.sub("", text)))
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(str(folder), "")
    if isinstance(exc, EncodeError):
        text += ": the tool writes the model as one message of Protocol Buffers, which must be smaller than 2 GB"
    if not text and (frames := traceback.extract_tb(exc.__traceback__)):
        text = f"in {frames[-1].name} of {Path(frames[-1].filename).name}"
    if not isinstance(exc, RecipeError):
        text = f"{type(exc).__name__}: {text}"
    return text if len(text) <= LIMIT else f"{text[: LIMIT - 1]}…"


def nodes_at(exc: BaseException) -> Iterator[str]:
    """Yield the names of the nodes that were worked on when something was raised, the innermost first."""
    return (node.name for node in _nodes(exc))


def is_of_tool(exc: BaseException) -> bool:
    """Say whether something was raised inside of onnx, onnxruntime or another tool for models."""
    return _tool_at(exc) is not None


def _nodes(exc: BaseException) -> Iterator[NodeProto]:
    """Yield the nodes that the functions on the way to an exception held: onnxruntime's operators hold theirs as ``self.node``."""
    for frame in reversed([frame for frame, _ in traceback.walk_tb(exc.__traceback__)]):
        held = frame.f_locals
        for value in (getattr(held.get("self"), "node", None), held.get("node")):
            if isinstance(value, NodeProto):
                yield value


def _tool_at(exc: BaseException) -> str | None:
    """Name the file of onnx or onnxruntime that an exception came from, as ``onnxruntime/quantization/quantize.py``."""
    for frame in reversed(traceback.extract_tb(exc.__traceback__)):
        parts = Path(frame.filename).parts
        for index, part in enumerate(parts):
            if part == "site-packages" and parts[index + 1] in TOOLS:
                return "/".join(parts[index + 1 :])
    return None
