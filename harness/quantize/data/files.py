"""Numpy's files, found to fit a model and cut into feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError
from harness.quantize.data.feeds import LEFT_OUT, Column, FileFeeds, ends_of
from harness.quantize.data.fit import LABELS, Fit, check_label_count, checked_labels, shown
from harness.quantize.data.sources import files_of, open_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.data.sources import ArrayFile
    from harness.quantize.model.model import TensorSpec


def open_files(fit: Fit, path: Path) -> tuple[FileFeeds, NDArray[np.int64] | None, tuple[str, ...]]:
    """Open a .npz or .npy file or a folder of them; only headers and labels are read.

    An array with the rank of its input is split along axis 0 into pieces of the input's size there; an array with one axis more
    holds one whole input per entry of axis 0; an array without axes for an input without axes is fed every time. What does not
    fill a piece is dropped, with a note.

    Returns:
        The feeds, the labels of their rows, and notes.

    Raises:
        DataError: if files can't be read or do not fit the model.
    """
    files = [open_file(file, fit.model.inputs) for file in files_of(path)]
    for file in files:
        fit.check_names(str(file.path), file.headers)
        for spec in fit.model.inputs:
            fit.check_dtype(str(file.path), spec, file.headers[spec.name])
            _check_shape(fit, file, spec)
    notes: list[str] = []
    columns = [_column(fit, str(path), spec, files, notes) for spec in fit.model.inputs]
    counts = {column.name: column.count for column in columns if column.size != 0}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' {number}" for name, number in counts.items())
        message = f"{path}: the inputs have different numbers of samples: {listed}"
        raise DataError(message)
    count = next(iter(counts.values()), 1)
    return FileFeeds(files, columns, count), _labels(fit, str(path), files, count), tuple(dict.fromkeys(notes))


def _check_shape(fit: Fit, file: ArrayFile, spec: TensorSpec) -> None:
    """See that an array holds rows of an input, or whole inputs.

    Raises:
        DataError: if not.
    """
    shape = file.headers[spec.name].shape
    rank = len(spec.shape)
    fits = {
        rank: fit.fits(spec, shape[1:], first=False),  # rows
        rank + 1: fit.fits(spec, shape[1:]),  # whole inputs
    }
    if not fits.get(len(shape)):
        raise fit.misshapen(str(file.path), spec, file.headers[spec.name])


def _column(fit: Fit, place: str, spec: TensorSpec, files: Sequence[ArrayFile], notes: list[str]) -> Column:
    """Find how the arrays of one input are cut.

    Raises:
        DataError: if they can't be.
    """
    headers = [file.headers[spec.name] for file in files]
    if len({header.ndim for header in headers}) > 1:
        message = f"{place}: '{spec.name}' has {headers[0].ndim} axes in some files and not in others"
        raise DataError(message)
    if headers[0].ndim == 0:
        return Column(spec.name, 0, (1,))
    whole = headers[0].ndim > len(spec.shape)
    size = None if whole else fit.shapes[spec.name][0]
    if size == 0:
        message = (
            f"{place}: '{spec.name}' is {shown(headers[0].shape)}, and its first axis is 0 in each run, so that rows do not tell the "
            f"runs apart; give whole inputs with one axis more: {shown((1, *fit.shapes[spec.name]))} for one run"
        )
        raise DataError(message)
    column = Column(spec.name, size, ends_of(header.shape[0] for header in headers))
    total = column.ends[-1]
    if not column.count:
        message = f"{place}: '{spec.name}' is {shown((total, *headers[0].shape[1:]))}, not enough for one run; {fit.wants(spec)}"
        raise DataError(message)
    if size and size > 1 and len({header.shape[1:] for header in headers}) > 1:
        message = (
            f"{place}: '{spec.name}' has other sizes in some files, and {size} rows make one run, which can't be put together of "
            "different ones; set the batch to 1, or give whole inputs, with an axis more"
        )
        raise DataError(message)
    if size and total % size:
        notes.append(LEFT_OUT.format(rest=total % size, total=total, size=size))
    return column


def _labels(fit: Fit, place: str, files: Sequence[ArrayFile], count: int) -> NDArray[np.int64] | None:
    """Join the labels of all files, if they have any, and cut them to the rows that are fed.

    Raises:
        DataError: if they are not one class for each row.
    """
    if not fit.wants_labels or all(LABELS not in file.headers for file in files):
        return None
    given = [(str(file.path), file.read([LABELS]).get(LABELS) if LABELS in file.headers else None) for file in files]
    labels = np.concatenate([checked_labels(*each) for each in given])
    first = next((spec for spec in fit.model.inputs if fit.shapes[spec.name]), None)
    if first is not None:
        headers = [file.headers[first.name] for file in files]
        whole = headers[0].ndim > len(first.shape)
        check_label_count(place, labels, sum(header.shape[0] for header in headers) * (fit.batch if whole else 1))
    return labels[: count * fit.batch]
