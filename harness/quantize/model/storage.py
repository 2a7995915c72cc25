"""Model files on disk: one ``.onnx``, or for a large model one ``.onnx`` and beside it one file of tensors, named by its sha256.

A model names its tensors' file, and so that file's hash: the sha256 of the ``.onnx`` covers both, both can lie in any folder that
keeps files by their hashes, and variants that have the same tensors share one file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, BinaryIO

import onnx
from onnx import TensorProto, helper

from harness import files
from harness.quantize.model.external_data import locations, place_of, relocate
from harness.quantize.model.graph import tensors

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

# Bytes of a model's tensors and graph. Protobuf refuses a message of 2 GiB, and onnxruntime's tools add to what they are given.
LARGE = 1_800_000_000
# Smaller tensors stay with the graph: shape inference needs the values of some.
LEAST_TENSOR = 1024
# Where a tensor may begin; onnx.proto advises the page size, for loaders that map the file.
ALIGNED = 4096
CHUNK = 1 << 22


@dataclass(frozen=True)
class ModelFile:
    """A model on disk.

    Attributes:
        sha256: of the ``.onnx`` file, in hex.
        size: bytes, those of the tensors' file included.
        data: sha256 of the file of tensors, which is also its name, or None.
    """

    sha256: str
    size: int
    data: str | None


def is_large(size: int) -> bool:
    """Say whether a model of so many bytes keeps its tensors beside it."""
    return size >= LARGE


def size(model: ModelProto) -> int:
    """About how many bytes a model's tensors take up, wherever they are."""
    return sum(_bytes_of(tensor) for tensor in tensors(model))


def describe(path: Path) -> ModelFile:
    """Hash and measure a model that was written by :func:`write` or :func:`settle`."""
    data = data_of(path)
    both = [path, *([path.with_name(data)] if data else [])]
    return ModelFile(sha256=files.sha256(path), size=sum(file.stat().st_size for file in both), data=data)


def data_of(path: Path) -> str | None:
    """The name of a model's file of tensors, or None; other files than models have none."""
    if not _is_onnx(path):
        return None
    found = locations(onnx.load(path, load_external_data=False))
    return found[0] if len(found) == 1 and _is_hash(found[0]) else None


def is_whole(path: Path, sha256: str | None, data: str | None) -> bool:
    """Say whether a model's files are there and are what they were.

    Raises:
        OSError: if one can't be read.
    """
    return files.sha256(path) == sha256 and (data is None or files.sha256(path.with_name(data)) == data)


def write(model: ModelProto, path: Path, folder: Path | None = None) -> None:
    """Write a model, whose tensors are changed in place: as one file, or as two when it is large.

    Args:
        model: in memory, whole or but for external data.
        path: where it goes.
        folder: where the external data are that were not loaded.
    """
    if not is_large(size(model)):
        if locations(model) and folder is not None:
            outside = [tensor for tensor in tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
            onnx.load_external_data_for_model(model, str(folder.resolve()))
            for tensor in outside:
                # So that the file is that of a model that never had any.
                tensor.ClearField("data_location")
        onnx.save(model, path)
        return
    moved = [tensor for tensor in model.graph.initializer if _is_movable(tensor)]
    beside = path.with_name(f".{path.name}.data")
    with beside.open("wb") as file:
        kept = [tensor for tensor in tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
        for tensor in [*moved, *kept]:
            file.write(bytes(-file.tell() % ALIGNED))
            begun = file.tell()
            if tensor.data_location == TensorProto.EXTERNAL:
                assert folder is not None  # noqa: S101 - external data can't be found without
                _copy_range(folder, tensor, file)
            else:
                file.write(tensor.raw_data)
                tensor.ClearField("raw_data")
            relocate(tensor, beside.name, begun, file.tell() - begun)
    _name_by_hash(model, beside, path)


def settle(path: Path) -> None:
    """Bring what a tool wrote into the form of this module: large models in two files, others in one."""
    if not _is_onnx(path):
        return
    model = onnx.load(path, load_external_data=False)
    found = locations(model)
    if not found:
        return
    beside = [path.with_name(name) for name in found]
    if len(beside) == 1 and is_large(size(model)) and not any(map(_is_movable, model.graph.initializer)):
        _name_by_hash(model, beside[0], path)
        return
    write(model, path, path.parent)
    for file in beside:
        file.unlink()


def copy(source: Path, target: Path, data: str | None) -> None:
    """Copy a model and the file of its tensors, if it has one; each file is written beside and renamed."""
    if data is not None:
        _copy_data(source.with_name(data), target.with_name(data))
    files.copy(source, target)


def move(source: Path, target: Path, data: str | None) -> None:
    """Move a model and the file of its tensors, within a file system; what an earlier one of that name left goes."""
    left = _left_behind(target)
    if data is not None:
        source.with_name(data).replace(target.with_name(data))
    source.replace(target)
    if left is not None and left.name != data:
        _remove_unused(left)


def remove(path: Path) -> None:
    """Remove a model, if it is there, and its tensors unless another one beside it has them."""
    left = _left_behind(path)
    path.unlink(missing_ok=True)
    if left is not None:
        _remove_unused(left)


def _is_onnx(path: Path) -> bool:
    """Say whether a file is no model in onnxruntime's own format, which has its mark where FlatBuffers keep it."""
    with path.open("rb") as file:
        return file.read(8)[4:] != b"ORTM"


def _bytes_of(tensor: TensorProto) -> int:
    try:
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError:
        return 0
    return int(prod(tensor.dims) * kind.itemsize)


def _is_movable(tensor: TensorProto) -> bool:
    return bool(
        tensor.data_location != TensorProto.EXTERNAL and tensor.HasField("raw_data") and _bytes_of(tensor) >= LEAST_TENSOR
    )


def _is_hash(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


def _copy_range(folder: Path, tensor: TensorProto, target: BinaryIO) -> None:
    """Append a tensor's bytes from where it says that they are."""
    location, offset, length = place_of(tensor)
    with (folder / location).open("rb") as file:
        file.seek(offset)
        left = length if length is not None else (folder / location).stat().st_size - offset
        while left and (data := file.read(min(CHUNK, left))):
            target.write(data)
            left -= len(data)


def _name_by_hash(model: ModelProto, beside: Path, path: Path) -> None:
    """Give the tensors' file its name, and write the model that names it."""
    name = files.sha256(beside)
    beside.replace(path.with_name(name))
    for tensor in tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            _, offset, length = place_of(tensor)
            relocate(tensor, name, offset, length)
    onnx.save(model, path)


def _left_behind(path: Path) -> Path | None:
    """The tensors' file of a model that is about to be replaced or removed, if it has one."""
    try:
        data = data_of(path)
    except Exception:  # noqa: BLE001 - missing, or no model at all: then it is not ours to tidy up
        return None
    return path.with_name(data) if data is not None else None


def _remove_unused(data: Path) -> None:
    """Remove a file of tensors that no model beside it names."""
    if not any(_left_behind(other) == data for other in data.parent.glob("*.onnx")):
        data.unlink(missing_ok=True)


def _copy_data(source: Path, target: Path) -> None:
    if not (target.is_file() and target.stat().st_size == source.stat().st_size and files.sha256(target) == target.name):
        files.copy(source, target)
