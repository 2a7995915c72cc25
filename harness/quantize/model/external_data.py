"""Tensors that a model keeps in files beside it: checked before anything is read from them.

A model file from elsewhere may name any path. What is refused here is also refused by current releases of onnx; older ones
followed such paths (CVE-2026-27489, -34446, -34447).
"""

from __future__ import annotations

import stat
from math import inf
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import onnx

from harness.errors import ModelError
from harness.quantize.model.graph import tensors

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from onnx import ModelProto, TensorProto


def locations(model: ModelProto) -> tuple[str, ...]:
    """List the files that the model's tensors are kept in, as the model names them, each once."""
    found = (
        entry.value
        for tensor in tensors(model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    )
    return tuple(dict.fromkeys(found))


def load(model: ModelProto, path: Path) -> tuple[str, ...]:
    """Read, in place, the tensors that are kept beside the model.

    Args:
        model: the model as it was parsed.
        path: its file; the data must lie in the same folder or below.

    Returns:
        The files, relative to the model's folder.

    Raises:
        ModelError: if a file is missing, too short, or lies where a model has no business.
    """
    files = check(model, path)
    if files:
        try:
            onnx.load_external_data_for_model(model, str(path.parent.resolve()))
        except Exception as exc:
            message = f"{path}: its external data can't be read: {str(exc).strip().splitlines()[0]}"
            raise ModelError(message) from exc
    return files


def load_small(model: ModelProto, path: Path, limit: int) -> tuple[str, ...]:
    """As :func:`load`, but for tensors of so many bytes and more, which stay where they are."""
    files = check(model, path)
    small = [each for each in tensors(model) if each.data_location == onnx.TensorProto.EXTERNAL and _length(each) < limit]
    for tensor in small:
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent.resolve()))
        except Exception as exc:
            message = f"{path}: its external data can't be read: {str(exc).strip().splitlines()[0]}"
            raise ModelError(message) from exc
    return files


def check(model: ModelProto, path: Path) -> tuple[str, ...]:
    """See that the files that hold a model's tensors are there, long enough, and where they may be.

    Args:
        model: the model as it was parsed.
        path: its file.

    Returns:
        The files, relative to the model's folder.

    Raises:
        ModelError: if not.
    """
    files = locations(model)
    for location in files:
        if reason := _objection(location, path.parent):
            message = f"{path}: its external data '{location}' {reason}"
            raise ModelError(message)
    for tensor in tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            try:
                location, offset, length = place_of(tensor)
                end = offset + (length or 0)
            except ValueError as exc:
                message = f"{path}: tensor '{tensor.name}' does not say where its external data are: {exc}"
                raise ModelError(message) from exc
            if end > (there := (path.parent / location).stat().st_size):
                message = f"{path}: its external data '{location}' is truncated: {there} bytes, and tensor '{tensor.name}' ends at {end}; copy it again"
                raise ModelError(message)
    return files


def place_of(tensor: TensorProto) -> tuple[str, int, int | None]:
    """Tell where a tensor's external data are: the file, the offset and the number of bytes; None is up to the file's end.

    Raises:
        ValueError: if what it says is no place.
    """
    said = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = int(said.get("offset") or 0), int(said["length"]) if said.get("length") else None
    if not said.get("location") or offset < 0 or (length or 0) < 0:
        message = ", ".join(f"{key} {value!r:.80}" for key, value in said.items()) or "nothing"
        raise ValueError(message)
    return said["location"], offset, length


def _length(tensor: TensorProto) -> float:
    """How many bytes a tensor has elsewhere; one that does not say may have any number."""
    length = place_of(tensor)[2]
    return inf if length is None else length


def relocate(tensor: TensorProto, location: str, offset: int, length: int | None) -> None:
    """Say, in place, that a tensor's data are in another file."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def size(files: tuple[str, ...], folder: Path) -> int:
    """Sum the sizes of external files, in bytes; missing ones count as none."""
    found = (folder / name for name in files)
    return sum(file.stat().st_size for file in found if file.is_file())


def _objection(location: str, folder: Path) -> str | None:
    """Say why a location is refused, or None."""
    kinds = (PurePosixPath(location), PureWindowsPath(location))
    if not location or any(kind.is_absolute() for kind in kinds):
        return "is an absolute path or empty; it must be relative to the model's folder"
    if any(".." in kind.parts for kind in kinds):
        return "leaves the model's folder by '..'"
    file = folder / location
    if not file.parent.resolve().is_relative_to(folder.resolve()):
        return "lies outside of the model's folder"
    try:
        return _odd_file(file.lstat())
    except OSError:
        return "is missing; copy it beside the model"


def _odd_file(facts: os.stat_result) -> str | None:
    if stat.S_ISLNK(facts.st_mode):
        return "is a symbolic link; copy the file itself beside the model"
    if not stat.S_ISREG(facts.st_mode):
        return "is not a regular file"
    if facts.st_nlink > 1:
        return "has more than one hard link; copy it, so that nothing else can change it"
    return None
