"""Calibration and evaluation data, checked against the model and cut into feeds."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.errors import DataError
from harness.quantize.dims import input_shapes
from harness.quantize.sources import call, random_feeds, read_path
from harness.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from harness.quantize.dims import Shapes
    from harness.quantize.model import SourceModel, TensorSpec
    from harness.quantize.sources import Array, Feed

Purpose = Literal["calibration", "evaluation"]
LABELS = "labels"


@dataclass(frozen=True)
class Samples:
    """Data, ready to be fed.

    Attributes:
        feeds: for each run of the model, an array per input in the input's dtype and exact shape.
        labels: int64 [len(feeds) · batch], or None.
        source: where they came from.
        random: they mean nothing; no accuracy may be concluded from them.
        notes: what a user should know, such as samples that were dropped.
    """

    feeds: tuple[dict[str, NDArray[Any]], ...]
    labels: NDArray[np.int64] | None
    source: str
    random: bool = False
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, over names, dtypes, shapes and bytes of all arrays in order."""
        digest = hashlib.sha256()
        labelled: tuple[Mapping[str, Array], ...] = () if self.labels is None else ({LABELS: self.labels},)
        for feed in (*self.feeds, *labelled):
            for name, array in sorted(feed.items()):
                digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Reader:
    """The model's side of a check, and how its messages begin."""

    model: SourceModel
    shapes: Shapes
    what: Purpose

    @property
    def batch(self) -> int:
        """Rows of a feed: the first axis of the first input that has one."""
        return next((shape[0] for shape in self.shapes.values() if shape), 1)

    @property
    def takes_labels(self) -> bool:
        return all(spec.name != LABELS for spec in self.model.inputs)

    def wants(self, spec: TensorSpec) -> str:
        """Describe an input as it is fed."""
        return f"{self.model.path.name} wants {spec.dtype} {_shown(self.shapes[spec.name])} for each run"


def load(source: str, model: SourceModel, dims: Mapping[str, int], *, what: Purpose) -> Samples:
    """Read data and cut it into feeds.

    An array with the rank of its input is split along axis 0 into pieces of the input's size there; an array with one axis more
    holds one whole input per entry of axis 0; an array without axes for an input without axes is fed every time. What does not
    fill a piece is dropped, with a note.

    Args:
        source: an .npz or .npy file, a folder of them, ``module:callable`` (which gives whole feeds), or ``random``.
        model: what they are fed to.
        dims: one of the combinations of :func:`harness.quantize.dims.resolve_dims`.
        what: in calibration data ``labels`` are ignored, and NaN and infinities refused.

    Raises:
        DataError: if the data can't be read or do not fit the model.
        ModelError: if the dimensions are not the model's.
    """
    reader = _Reader(model, input_shapes(model, dims), what)
    if source == "random":
        feeds = random_feeds(model.inputs, reader.shapes)
        note = f"the {what} data are random: figures of accuracy mean nothing"
        return Samples(tuple(feeds), None, source, random=True, notes=(note,))
    if re.fullmatch(r"[\w.]+:\w+", source):
        samples = _from_feeds(reader, source, call(source))
    else:
        samples = _from_files(reader, source, read_path(Path(source), model.inputs))
    if what == "calibration":
        _refuse_not_finite(samples)
    return samples


def _from_feeds(reader: _Reader, source: str, feeds: list[Feed]) -> Samples:
    """Check feeds that a callable made; each may bring its own labels."""
    for number, feed in enumerate(feeds):
        place = f"{source}: item {number}"
        _check_names(reader, place, feed)
        for spec in reader.model.inputs:
            _check_dtype(reader, place, spec, feed[spec.name])
            if feed[spec.name].shape != reader.shapes[spec.name]:
                raise _misshapen(reader, place, spec, feed[spec.name])
    labels = None
    if reader.what == "evaluation" and reader.takes_labels and any(LABELS in feed for feed in feeds):
        labels = np.concatenate([_labels(f"{source}: item {n}", feed.get(LABELS)) for n, feed in enumerate(feeds)])
        _check_label_count(source, labels, len(feeds) * reader.batch)
    names = [spec.name for spec in reader.model.inputs]
    return Samples(tuple({name: feed[name] for name in names} for feed in feeds), labels, source)


def _from_files(reader: _Reader, source: str, tables: Sequence[tuple[Path, Feed]]) -> Samples:
    """Join the arrays of all files, and cut them."""
    for file, table in tables:
        _check_names(reader, str(file), table)
        for spec in reader.model.inputs:
            _check_dtype(reader, str(file), spec, table[spec.name])
            _check_shape(reader, str(file), spec, table[spec.name])
    pieces: dict[str, list[Array]] = {}
    constants: dict[str, Array] = {}
    notes: list[str] = []
    for spec in reader.model.inputs:
        arrays = [table[spec.name] for _, table in tables]
        if arrays[0].ndim == 0:
            constants[spec.name] = arrays[0]
        else:
            pieces[spec.name] = _cut(reader, source, spec, arrays, notes)
    counts = {name: len(cut) for name, cut in pieces.items()}
    count = next(iter(counts.values()), 1)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' {number}" for name, number in counts.items())
        message = f"{source}: the inputs have different numbers of samples: {listed}"
        raise DataError(message)
    feeds = tuple({**{name: cut[index] for name, cut in pieces.items()}, **constants} for index in range(count))
    labels = _labels_of(reader, source, tables, count)
    return Samples(feeds, labels, source, notes=tuple(dict.fromkeys(notes)))


def _cut(reader: _Reader, source: str, spec: TensorSpec, arrays: list[Array], notes: list[str]) -> list[Array]:
    """Cut the arrays of one input into one piece per feed."""
    shape = reader.shapes[spec.name]
    if len({array.ndim for array in arrays}) > 1:
        message = f"{source}: '{spec.name}' has {arrays[0].ndim} axes in some files and not in others"
        raise DataError(message)
    joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if joined.ndim > len(shape):
        pieces = list(joined)
    else:
        size = shape[0]
        pieces = [joined[start : start + size] for start in range(0, len(joined) - size + 1, size)]
        if rest := len(joined) % size:
            notes.append(f"the last {rest} of {len(joined)} samples do not fill a batch of {size} and are left out")
    if pieces:
        return pieces
    message = f"{source}: '{spec.name}' is {_shown(joined.shape)}, not enough for one run; {reader.wants(spec)}"
    raise DataError(message)


def _labels_of(reader: _Reader, source: str, tables: Sequence[tuple[Path, Feed]], count: int) -> NDArray[np.int64] | None:
    """Join the labels of all files, if they have any, and cut them to the rows that are fed."""
    if reader.what != "evaluation" or not reader.takes_labels or all(LABELS not in table for _, table in tables):
        return None
    labels = np.concatenate([_labels(str(file), table.get(LABELS)) for file, table in tables])
    rows = count * reader.batch
    first = next((spec for spec in reader.model.inputs if reader.shapes[spec.name]), None)
    if first is not None:
        arrays = [table[first.name] for _, table in tables]
        whole = arrays[0].ndim > len(reader.shapes[first.name])
        _check_label_count(source, labels, sum(map(len, arrays)) * (reader.batch if whole else 1))
    return labels[:rows]


def _labels(place: str, labels: Array | None) -> NDArray[np.int64]:
    if labels is None:
        message = f"{place}: has no '{LABELS}', while others have"
        raise DataError(message)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        message = f"{place}: '{LABELS}' is {labels.dtype} {_shown(labels.shape)}; it must be one integer class per row"
        raise DataError(message)
    return labels.astype(np.int64)


def _check_label_count(place: str, labels: NDArray[np.int64], rows: int) -> None:
    if len(labels) != rows:
        message = f"{place}: {len(labels)} labels for {rows} rows; give one label for each"
        raise DataError(message)


def _check_names(reader: _Reader, place: str, arrays: Mapping[str, Array]) -> None:
    wanted = [spec.name for spec in reader.model.inputs]
    given = [name for name in arrays if not (name == LABELS and reader.takes_labels)]
    faults = [f"it has '{name}', which is no input; {nearest(name, wanted)}" for name in given if name not in wanted]
    faults += [f"input '{name}' is missing" for name in wanted if name not in given]
    if faults:
        described = ", ".join(str(spec) for spec in reader.model.inputs)
        message = f"{place}: {'; '.join(faults)}; {reader.model.path.name} wants {described}"
        raise DataError(message)


def _check_dtype(reader: _Reader, place: str, spec: TensorSpec, array: Array) -> None:
    if array.dtype.name != spec.dtype:
        message = (
            f"{place}: '{spec.name}' is {array.dtype.name} {_shown(array.shape)}; {reader.wants(spec)}: "
            f"convert it with .astype('{spec.dtype}')"
        )
        raise DataError(message)


def _check_shape(reader: _Reader, place: str, spec: TensorSpec, array: Array) -> None:
    shape = reader.shapes[spec.name]
    fits = {
        len(shape): array.shape[1:] == shape[1:],  # rows
        len(shape) + 1: array.shape[1:] == shape,  # whole inputs
    }
    if not fits.get(array.ndim):
        raise _misshapen(reader, place, spec, array)


def _misshapen(reader: _Reader, place: str, spec: TensorSpec, array: Array) -> DataError:
    hint = ""
    if array.ndim == len(spec.shape) - 1:
        hint = "; the axis of the samples is missing: array[numpy.newaxis]"
    elif any(isinstance(size, str) for size in spec.shape):
        hint = f"; its open dimensions are set by --dim or dims: {spec}"
    return DataError(f"{place}: '{spec.name}' is {spec.dtype} {_shown(array.shape)}; {reader.wants(spec)}{hint}")


def _refuse_not_finite(samples: Samples) -> None:
    for number, feed in enumerate(samples.feeds):
        for name, array in feed.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                message = (
                    f"{samples.source}: '{name}' of sample {number} holds NaN or infinity, which would ruin the "
                    "calibrated ranges; remove it"
                )
                raise DataError(message)


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
