"""Where arrays come from: .npz and .npy files, folders of them, a Python callable, a random generator.

Files are never unpickled.
"""

from __future__ import annotations

import importlib
import sys
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.npyio import NpzFile

from harness.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from harness.quantize.dims import Shapes
    from harness.quantize.model import TensorSpec

    Array = NDArray[Any]
    Feed = dict[str, Array]

RANDOM_FEEDS = 16
SUFFIXES = (".npz", ".npy")
UNREADABLE = (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def read_path(path: Path, inputs: Sequence[TensorSpec]) -> list[tuple[Path, Feed]]:
    """Read a file, or all .npz and .npy files of a folder in the order of their names.

    Args:
        path: the file or folder.
        inputs: the model's; the array of a .npy file is for the only one.

    Returns:
        Each file and its arrays by name.

    Raises:
        DataError: if there is nothing to read, or a file is damaged, pickled or not numpy's.
    """
    if not path.exists():
        message = (
            f"{path}: no such file or folder; calibration data is an .npz file, a folder of them, 'module:callable' or 'random'"
        )
        raise DataError(message)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
        if not files:
            message = f"{path}: the folder holds no .npz or .npy file"
            raise DataError(message)
    return [(file, _read_file(file, inputs)) for file in files]


def call(source: str) -> list[Feed]:
    """Call ``module:callable`` without arguments; the module may lie in the working folder.

    Returns:
        What it yields, as dictionaries of arrays.

    Raises:
        DataError: if it can't be imported or called, raises, or yields something else.
    """
    module_name, _, name = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:
        message = f"{source}: module '{module_name}' can't be imported: {type(exc).__name__}: {exc}"
        raise DataError(message) from exc
    function = getattr(module, name, None)
    if not callable(function):
        message = f"{source}: {module.__file__} has no callable '{name}'"
        raise DataError(message)
    try:
        yielded = list(function())
    except Exception as exc:
        message = f"{source}: raised {type(exc).__name__}: {exc}"
        raise DataError(message) from exc
    if not yielded:
        message = f"{source}: yielded nothing"
        raise DataError(message)
    return [_as_feed(source, number, item) for number, item in enumerate(yielded)]


def random_feeds(inputs: Sequence[TensorSpec], shapes: Shapes) -> list[Feed]:
    """Make 16 feeds from a fixed seed: standard normal floats, integers 0 and 1, booleans.

    Raises:
        DataError: if an input is of a type that has no obvious distribution.
    """
    rng = np.random.default_rng(0)
    return [{spec.name: _random(rng, spec, shapes[spec.name]) for spec in inputs} for _ in range(RANDOM_FEEDS)]


def _read_file(file: Path, inputs: Sequence[TensorSpec]) -> Feed:
    try:
        # Opened here, as numpy leaves a damaged file open.
        with file.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if not isinstance(loaded, NpzFile):
                return {_only(file, inputs): loaded}
            arrays = {name: loaded[name] for name in loaded.files}
    except UNREADABLE as exc:
        if "allow_pickle" in str(exc) and "Object arrays" in str(exc):
            reason = "holds pickled Python objects, which are not read; save plain arrays of numbers"
        elif isinstance(exc, OSError) and exc.strerror:
            reason = f"can't be read: {exc.strerror}"
        else:
            reason = "not a numpy file or damaged; write it with numpy.savez"
        message = f"{file}: {reason}"
        raise DataError(message) from exc
    if stray := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
        message = f"{file}: '{stray[0]}' is no numpy array; write the file with numpy.savez"
        raise DataError(message)
    return arrays


def _only(file: Path, inputs: Sequence[TensorSpec]) -> str:
    """Name the input that a nameless array is for."""
    if len(inputs) == 1:
        return inputs[0].name
    names = ", ".join(spec.name for spec in inputs)
    message = f"{file}: a .npy file holds one array without a name, but the model has {len(inputs)} inputs: {names}; save an .npz"
    raise DataError(message)


def _as_feed(source: str, number: int, item: object) -> Feed:
    if isinstance(item, dict) and all(isinstance(value, np.ndarray) for value in item.values()):
        feed: Mapping[object, Array] = item
        return {str(name): value for name, value in feed.items()}
    message = f"{source}: item {number} is {type(item).__name__}, not a dictionary of numpy arrays by input name"
    raise DataError(message)


def _random(rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    if dtype.kind in "iub":
        return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    message = f"random data: input '{spec.name}' is {spec.dtype}, for which none can be made; give calibration data"
    raise DataError(message)
