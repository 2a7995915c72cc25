"""A source model: opened, checked, and its inputs described."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs

from harness import files, paths
from harness.errors import ModelError
from harness.quantize.model import external_data, storage, validity
from harness.quantize.model.file_type import looks_like
from harness.quantize.model.graph import is_garbled, is_quantized, name_nodes, nodes, opset_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from onnx import ModelProto, TensorShapeProto, ValueInfoProto

    Dimension = TensorShapeProto.Dimension

LIMIT = 2**31  # bytes; protobuf can't hold so many in one message
SHOWN = 3  # names in a message
# A field of ModelProto is its ir_version, number 1, a varint: nearly every exporter writes it first.
ONNX_START = b"\x08"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: as in the graph.
        dtype: numpy's name of the element type, such as ``float32``.
        shape: one entry per axis: the size where it is fixed, else the dimension's name; a dimension without a usable name of
            its own is called ``TENSOR.AXIS``, such as ``x.0``.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join(str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class SourceModel:
    """A model file that can be opened.

    Attributes:
        path: the file.
        proto: its content, not to be changed; external data included, but for tensors of 1 KiB and more of a model that is large. Nodes of the main graph that
            have no name are given one, by which they can be excluded.
        sha256: of the file's bytes, in hex; with external data, over the file's and then the others' hashes, in hex too.
        size: of the file and its external data, in bytes.
        inputs: without those that only give an initializer its value.
        outputs: those that are tensors.
        opset: version of the standard operator set.
        ir_version: of the file format.
        external_data: the files beside it that hold tensors.
    """

    path: Path
    proto: ModelProto
    sha256: str
    size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    ir_version: int
    external_data: tuple[str, ...] = ()

    @property
    def is_large(self) -> bool:
        """Whether its tensors, where they are kept beside it, are left there."""
        return storage.is_large(self.size)

    def content(self) -> ModelProto:
        """Copy the whole model, external data included, for who changes it; shapes of a large one are inferred, for the tools can't."""
        copied = onnx.ModelProto()
        copied.CopyFrom(self.proto)
        if self.is_large and self.external_data:
            with suppress(Exception):  # onnx raises its own, and what it can't tell is not needed
                copied = onnx.shape_inference.infer_shapes(copied)
            external_data.load(copied, self.path)
        return copied


def open_model(path: Path) -> SourceModel:
    """Open a float model.

    Raises:
        ModelError: if it is missing, not ONNX, damaged, too large, quantized already, takes something else than numeric
            tensors, or keeps data in files that are missing or where they must not be.
    """
    model = read_model(path)
    quantized = [node for node in nodes(model.proto) if is_quantized(node.op_type)]
    if quantized:
        shown = ", ".join(f"{node.name or '(unnamed)'} ({node.op_type})" for node in quantized[:SHOWN])
        more = ", …" if len(quantized) > SHOWN else ""
        message = (
            f"{path}: the model is quantized already, {len(quantized)} nodes: {shown}{more}; give the float model, or take it as it is: "
            'methods = ["given"] in a study, --variants given for a bare model'
        )
        raise ModelError(message)
    return model


def read_model(path: Path) -> SourceModel:
    """Open a model, which may be quantized.

    Raises:
        ModelError: as :func:`open_model`, but for a quantized model.
    """
    data = _bytes(path)
    proto = _parse(path, data)
    beside = external_data.locations(proto)
    size = len(data) + external_data.size(beside, path.parent)
    if outside := storage.is_large(size) and bool(beside):
        external_data.load_small(proto, path, storage.LEAST_TENSOR)
    else:
        external_data.load(proto, path)
    _check_inputs(path, proto)
    try:
        # Protobuf can't hand over a message of 2 GB; a file's tensors the checker leaves where they are.
        validity.check(path if outside else proto)
    except Exception as exc:
        message = f"{path}: not a valid ONNX model, perhaps truncated or damaged: {_first_line(exc)}"
        raise ModelError(message) from exc
    opset = opset_of(proto)
    if opset is None:
        message = f"{path}: the model does not say which version of the standard operator set it uses; export it again"
        raise ModelError(message)
    if not proto.graph.output:
        message = f"{path}: the model has no outputs, so there is nothing to run or to compare; export it with its outputs"
        raise ModelError(message)
    name_nodes(proto)
    return SourceModel(
        path=path,
        proto=proto,
        sha256=_sha256(data, [path.parent / name for name in beside]),
        size=size,
        inputs=tuple(_spec(path, value) for value in _fed(proto)),
        outputs=tuple(_spec(path, value) for value in proto.graph.output if value.type.HasField("tensor_type")),
        opset=opset,
        ir_version=proto.ir_version,
        external_data=beside,
    )


def _sha256(data: bytes, beside: Iterable[Path]) -> str:
    """Hash a model's file, and those beside it that it names."""
    own = hashlib.sha256(data).hexdigest()
    others = [files.sha256(file) for file in beside]
    return hashlib.sha256("".join([own, *others]).encode()).hexdigest() if others else own


def dimension_name(dimension: Dimension) -> str | None:
    """Return the name of a dimension if it has one that tells it from others.

    Exporters write unknown sizes as -1, as ``?`` for several different dimensions, or as an expression such as ``2*seq``.
    """
    return dimension.dim_param if re.fullmatch(r"[A-Za-z_][\w.-]*", dimension.dim_param) else None


def _bytes(path: Path) -> bytes:
    """Read the file.

    Raises:
        ModelError: if it can't be read or is too large.
    """
    paths.refuse_stream(path, ModelError)
    try:
        size = path.stat().st_size
        if size >= LIMIT:
            raise ModelError(_too_large(path, size))
        return path.read_bytes()
    except FileNotFoundError:
        reason = "no such file"
    except IsADirectoryError:
        reason = "is a folder; give the .onnx file in it"
    except OSError as exc:
        reason = f"can't be read: {exc.strerror}"
    message = f"{path}: {reason}"
    raise ModelError(message)


def _parse(path: Path, data: bytes) -> ModelProto:
    """Parse the file, and check that it holds a graph.

    Raises:
        ModelError: if it does not.
    """
    if what := looks_like(data):
        message = f"{path}: not an ONNX model but {what}"
        raise ModelError(message)
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError as exc:
        damaged = "truncated or damaged: copy or export it again" if data.startswith(ONNX_START) else "not an ONNX model"
        message = f"{path}: {damaged}"
        raise ModelError(message) from exc
    if not proto.ir_version or not proto.HasField("graph"):
        # Any bytes can be read as a protobuf message of unknown fields.
        message = f"{path}: not an ONNX model: it holds no graph"
        raise ModelError(message)
    if is_garbled(proto):
        message = f"{path}: damaged: a name in it is not text; copy or export it again"
        raise ModelError(message)
    if not proto.graph.node:
        message = f"{path}: the model's graph has no nodes"
        raise ModelError(message)
    return proto


def _fed(proto: ModelProto) -> list[ValueInfoProto]:
    """List the inputs that must be fed: not those that an initializer gives a value."""
    given = {tensor.name for tensor in proto.graph.initializer}
    given |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    return [value for value in proto.graph.input if value.name not in given]


def _check_inputs(path: Path, proto: ModelProto) -> None:
    """Check that arrays can be fed.

    Raises:
        ModelError: if an input is no tensor of numbers, or has no rank.
    """
    values = [(value.name, value.type) for value in _fed(proto)]
    _refuse(path, (name for name, kind in values if not kind.HasField("tensor_type")), "not tensors")
    _refuse(path, (name for name, kind in values if kind.tensor_type.elem_type == onnx.TensorProto.STRING), "tensors of text")
    _refuse(path, (name for name, kind in values if not kind.tensor_type.HasField("shape")), "of unknown rank")


def _refuse(path: Path, names: Iterable[str], what: str) -> None:
    """Raise a ModelError that lists the inputs, if there are any."""
    if listed := ", ".join(f"'{name}'" for name in names):
        message = f"{path}: these inputs are {what}: {listed}; only tensors of numbers with a known rank can be fed"
        raise ModelError(message)


def _spec(path: Path, value: ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(
        size.dim_value if size.dim_value > 0 else dimension_name(size) or f"{value.name}.{axis}"
        for axis, size in enumerate(tensor.shape.dim)
    )
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except KeyError as exc:
        message = f"{path}: '{value.name}' is of element type {tensor.elem_type}, which onnx {onnx.__version__} does not know"
        raise ModelError(message) from exc
    return TensorSpec(value.name, dtype.name, shape)


def _too_large(path: Path, size: int) -> str:
    return (
        f"{path}: {size / 2**30:.1f} GB in one file, and no ONNX file can be read that has 2 GB or more; "
        "export it with external data: a small .onnx file, and its tensors beside it"
    )


def _first_line(exc: Exception) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0]
