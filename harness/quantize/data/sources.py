"""Arrays in numpy's files: .npz and .npy, and folders of them. Files are never unpickled."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.lib.npyio import NpzFile

from harness import paths
from harness.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.model.model import TensorSpec

    Array = NDArray[Any]
    Feed = dict[str, Array]

SUFFIXES = (".npz", ".npy")
UNREADABLE = (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError)
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
ARCHIVE = b"PK"


@dataclass(frozen=True)
class Header:
    """What a file says of an array before its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


@dataclass(frozen=True)
class ArrayFile:
    """A .npz or .npy file whose headers were read.

    Attributes:
        headers: of each array, by name.
        plain: it is a .npy file, which need not be read to be looked at.
    """

    path: Path
    headers: Mapping[str, Header]
    plain: bool

    def read(self, names: Sequence[str]) -> Feed:
        """Read some of its arrays; those of a .npy file stay on disk until they are used.

        Raises:
            DataError: if the file is damaged, or was changed.
        """
        try:
            if self.plain:
                # There is nothing to map in a file without values.
                how: Literal["r"] | None = "r" if all(0 not in header.shape for header in self.headers.values()) else None
                return dict.fromkeys(names, np.asarray(np.load(self.path, mmap_mode=how, allow_pickle=False)))
            with self.path.open("rb") as stream:
                loaded = np.load(stream, allow_pickle=False)
                if not isinstance(loaded, NpzFile):
                    raise zipfile.BadZipFile
                arrays = {name: loaded[name] for name in names}
        except UNREADABLE as exc:
            raise _unreadable(self.path, exc) from exc
        for name, array in arrays.items():
            if (array.shape, array.dtype) != (self.headers[name].shape, self.headers[name].dtype):
                message = f"{self.path}: '{name}' was changed while it was read"
                raise DataError(message)
        return arrays


def files_of(path: Path) -> list[Path]:
    """List a file, or all .npz and .npy files of a folder in the order of their names.

    Raises:
        DataError: if there are none.
    """
    if not path.is_dir():
        paths.refuse_stream(path, DataError)
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not files:
        message = f"{path}: the folder holds no .npz or .npy file, image or recording"
        raise DataError(message)
    return files


def open_file(path: Path, inputs: Sequence[TensorSpec]) -> ArrayFile:
    """Read the headers of a file.

    Args:
        path: the file.
        inputs: the model's; the array of a .npy file is for the only one.

    Raises:
        DataError: if it is damaged, pickled or not numpy's.
    """
    try:
        # Opened here, as numpy leaves a damaged file open.
        with path.open("rb") as stream:
            plain = stream.read(len(ARCHIVE)) != ARCHIVE
            stream.seek(0)
            headers = {"": _header(stream)} if plain else _members(stream)
    except UNREADABLE as exc:
        raise _unreadable(path, exc) from exc
    if any(header.dtype.hasobject for header in headers.values()):
        message = f"{path}: holds pickled Python objects, which are not read; save plain arrays of numbers"
        raise DataError(message)
    return ArrayFile(path, {_only(path, inputs): headers[""]} if plain else headers, plain)


class StrayMemberError(ValueError):
    """An .npz file has a member that is no numpy array."""


def _members(stream: IO[bytes]) -> dict[str, Header]:
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        stray = [name for name in names if not name.endswith(".npy")]
        if stray:
            message = f"'{stray[0]}' is not a numpy array"
            raise StrayMemberError(message)
        headers = {}
        for name in names:
            with archive.open(name) as member:
                headers[name.removesuffix(".npy")] = _header(member)
    return headers


def _header(stream: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(stream)
    shape, _, dtype = HEADERS[version](stream)
    return Header(shape, dtype)


def _unreadable(path: Path, exc: BaseException) -> DataError:
    if isinstance(exc, OSError) and exc.strerror:
        return DataError(f"{path}: can't be read: {exc.strerror}")
    said = f": {exc}" if isinstance(exc, StrayMemberError) else ""
    return DataError(f"{path}: not a numpy file or damaged{said}; write it with numpy.savez")


def _only(file: Path, inputs: Sequence[TensorSpec]) -> str:
    """Name the input that a nameless array is for."""
    if len(inputs) == 1:
        return inputs[0].name
    names = ", ".join(spec.name for spec in inputs)
    message = f"{file}: a .npy file holds one array without a name, but the model has {len(inputs)} inputs: {names}; save an .npz"
    raise DataError(message)
