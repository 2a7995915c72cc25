"""Cuts model files at their large tensors. Variants of a model share most tensors, and each is then uploaded only once.

The tensors of a model of 2 GB and more lie in a file beside it, which the model names by its hash: that one is cut by the model's word.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SUFFIX = ".onnx"
# Smaller tensors travel with the graph around them: a piece costs about 75 bytes in the layout.
LEAST_TENSOR = 4096
LEAST_FILE = 4 * LEAST_TENSOR
# Protocol Buffers' wire types, https://protobuf.dev/programming-guides/encoding/
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
# Fields of onnx.proto on the way from a model to the bytes of its tensors.
GRAPH, INITIALIZER, NODE, ATTRIBUTE, ATTRIBUTE_TENSOR = 7, 5, 1, 5, 5
TENSOR_DATA = frozenset({4, 5, 7, 9, 10, 11})
# Of a tensor that lies elsewhere: entries of key and value.
EXTERNAL_DATA, KEY, VALUE = 13, 1, 2


@dataclass(frozen=True)
class Piece:
    """Consecutive bytes of a file."""

    sha256: str
    offset: int
    size: int


class _NotAModelError(Exception):
    pass


def cut(path: Path, sha256: str, starts: Sequence[int] = ()) -> tuple[Piece, ...]:
    """Cut a file; anything but a model, or a model's tensors, is one piece.

    Args:
        path: the file.
        sha256: of the whole.
        starts: where tensors begin, if it is a file of tensors.

    Returns:
        Pieces that make up the file, in its order.
    """
    size = path.stat().st_size
    if (path.suffix != SUFFIX and not starts) or size < LEAST_FILE:
        return (Piece(sha256, 0, size),)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            edges = sorted({0, *(start for start in starts if 0 < start < size), size}) if starts else _edges(data)
        except (_NotAModelError, IndexError):
            edges = [0, size]
        if len(edges) == 2:  # noqa: PLR2004 - start and end
            return (Piece(sha256, 0, size),)
        view = memoryview(data)
        try:
            return tuple(
                Piece(hashlib.sha256(view[start:end]).hexdigest(), start, end - start) for start, end in itertools.pairwise(edges)
            )
        finally:
            view.release()


def outside(models: Iterable[Path]) -> dict[str, list[int]]:
    """Find where the tensors begin that models keep in other files.

    Returns:
        By what the models call the file.
    """
    found: dict[str, list[int]] = {}
    for path in models:
        # An empty file can't be mapped: a ValueError, as is text that is none.
        with (
            path.open("rb") as file,
            contextlib.suppress(_NotAModelError, IndexError, ValueError),
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            for location, offset in _elsewhere(data):
                found.setdefault(location, []).append(offset)
    return found


def _elsewhere(data: mmap.mmap) -> Iterator[tuple[str, int]]:
    """Yield the file and the offset of each initializer that lies in another file."""
    for graph in _inside(data, 0, len(data), GRAPH):
        for tensor in _inside(data, *graph, INITIALIZER):
            said = {}
            for entry in _inside(data, *tensor, EXTERNAL_DATA):
                texts = {number: data[first:last].decode() for number, first, last in _fields(data, *entry)}
                said[texts.get(KEY)] = texts.get(VALUE, "")
            if "location" in said:
                yield said["location"], int(said.get("offset") or 0)


def _edges(data: mmap.mmap) -> list[int]:
    """Where pieces begin and end."""
    edges = [0]
    for start, end in _tensors(data):
        if end - start >= LEAST_TENSOR:
            edges += [edge for edge in (start, end) if edge != edges[-1]]
    if edges[-1] != len(data):
        edges.append(len(data))
    return edges


def _tensors(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each tensor's bytes, in the file's order."""
    for graph in _inside(data, 0, len(data), GRAPH):
        for number, start, end in _fields(data, *graph):
            if number == INITIALIZER:
                yield from _payload(data, start, end)
            elif number == NODE:
                for attribute in _inside(data, start, end, ATTRIBUTE):
                    for tensor in _inside(data, *attribute, ATTRIBUTE_TENSOR):
                        yield from _payload(data, *tensor)


def _payload(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of a TensorProto's values."""
    for number, first, last in _fields(data, start, end):
        if number in TENSOR_DATA:
            yield first, last


def _inside(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of a message's fields of one number."""
    for number, first, last in _fields(data, start, end):
        if number == wanted:
            yield first, last


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield a message's length-delimited fields: number, start, end."""
    position = start
    while position < end:
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == VARINT:
            _, position = _varint(data, position)
        elif kind == FIXED64:
            position += 8
        elif kind == FIXED32:
            position += 4
        elif kind == LENGTH:
            length, position = _varint(data, position)
            if position + length > end:
                raise _NotAModelError
            yield tag >> 3, position, position + length
            position += length
        else:
            raise _NotAModelError
    if position != end:
        raise _NotAModelError


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    """Read a varint. Returns it and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the highest bit says that another group follows
            return value, position
        shift += 7
        if shift > 63:  # noqa: PLR2004 - no number is longer
            raise _NotAModelError


def processors() -> int:
    """How many files to hash at once; hashing releases the interpreter's lock."""
    return min(4, os.cpu_count() or 1)
