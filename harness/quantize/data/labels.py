"""Files of a data set, such as images, and the class of each: from sub-folders or a table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness import paths
from harness.errors import DataError
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

SUB_FOLDERS = "folders"
NO_LABELS = "none"
ROW = 2  # cells: file, class


def find_files(path: Path, suffixes: Sequence[str], what: str) -> list[Path]:
    """List the files of a kind in a folder and its sub-folders, in the order of their paths; or the file itself.

    Hidden files, such as those that macOS leaves, are passed over.

    Raises:
        DataError: if there are none.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        message = f"{path}: no such file or folder"
        raise DataError(message)
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        message = f"{path}: the folder holds no {what} ({', '.join(suffixes)})"
        raise DataError(message)
    return files


def classes_of(files: Sequence[Path], folder: Path, labels: str | None) -> list[int] | None:
    """Find each file's class.

    Args:
        files: in their order.
        folder: that they are in.
        labels: ``folders``, ``none``, a .csv or .npy file; None takes sub-folders if every file lies in one.

    Raises:
        DataError: if the table can't be read or does not name them all, or a file lies in no sub-folder.
    """
    if labels == NO_LABELS:
        return None
    if labels not in {None, SUB_FOLDERS}:
        return _of_table(Path(labels), files, folder)
    tops = [_top(file, folder) for file in files]
    outside = [file for file, top in zip(files, tops, strict=True) if top is None]
    if outside and labels is None:
        return None
    if outside:
        message = f'{outside[0]}: lies in no sub-folder, and labels = "{SUB_FOLDERS}" takes their names for classes'
        raise DataError(message)
    names = sorted({top for top in tops if top is not None})
    return [names.index(top) for top in tops if top is not None]


def spread(count: int, limit: int | None) -> list[int]:
    """Choose so many of a number of things, evenly spread."""
    if limit is None or limit >= count:
        return list(range(count))
    return [index * count // limit for index in range(limit)]


def _top(file: Path, folder: Path) -> str | None:
    parts = file.relative_to(folder).parts if folder.is_dir() else ()
    return parts[0] if len(parts) > 1 else None


def _of_table(path: Path, files: Sequence[Path], folder: Path) -> list[int]:
    paths.refuse_stream(path, DataError)
    if path.suffix == ".npy":
        return _of_array(path, len(files))
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        message = f"{path}: labels can't be read: {getattr(exc, 'strerror', None) or exc}"
        raise DataError(message) from exc
    found: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        try:
            name, label = cells
            found[name] = int(label)
        except ValueError as exc:
            if number == 1 and len(cells) == ROW:
                continue  # a heading
            message = f"{path}, row {number}: write 'file,class' with a whole number for the class, not {','.join(row)!r:.80}"
            raise DataError(message) from exc
    root = folder if folder.is_dir() else folder.parent
    names = [file.relative_to(root).as_posix() for file in files]
    for name in names:
        if name not in found:
            message = f"{path}: has no row for {name}; {nearest(name, list(found)[:1000]) if found else 'it is empty'}"
            raise DataError(message)
    return [found[name] for name in names]


def _of_array(path: Path, count: int) -> list[int]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        message = f"{path}: labels can't be read: {getattr(exc, 'strerror', None) or 'no plain .npy file'}"
        raise DataError(message) from exc
    if array.shape != (count,) or array.dtype.kind not in "iu":
        message = f"{path}: {array.dtype} {list(array.shape)}; labels are one whole number for each of the {count} files"
        raise DataError(message)
    return [int(label) for label in array]
