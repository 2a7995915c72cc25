"""The canonical hash of a model: equal for files that hold the same graph under other names of nodes or in another order of tensors."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs

from harness.quantize.model.graph import MAIN_DOMAINS
from harness.quantize.model.model import ONNX_START

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

CHUNK = 2**20


def canonical_hash(path: Path) -> str:
    """Hash what a runtime computes from a model file, not how the file spells it.

    Left out are names of nodes and of the graph, documentation, the producer, metadata and inferred shapes; initializers,
    attributes and operator sets count in the order of their names. Names of tensors, the order of nodes, the IR version and every
    number stay: two files of one hash give the same session, while two equal models may still have different hashes.

    Args:
        path: a model; tensors that it keeps beside it are read one at a time. A file that is no ONNX, such as one in
            onnxruntime's own format, counts byte by byte.

    Returns:
        SHA-256 in hex.

    Raises:
        OSError: if the file, or one beside it, can't be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if file.read(1) != ONNX_START:
            file.seek(0)
            while content := file.read(CHUNK):
                digest.update(content)
            return digest.hexdigest()
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        digest.update(path.read_bytes())
        return digest.hexdigest()
    for part in _model(model, path.parent):
        # Each part says its length, so that no two sequences of parts read the same.
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _model(model: ModelProto, folder: Path) -> Iterable[bytes]:
    sets = {(_domain(entry.domain), entry.version) for entry in model.opset_import}
    yield repr((model.ir_version, sorted(sets), len(model.training_info))).encode()
    yield from _graph(model.graph, folder)
    for function in sorted(model.functions, key=lambda each: (each.domain, each.name)):
        yield repr(
            (function.domain, function.name, list(function.input), list(function.output), list(function.attribute))
        ).encode()
        yield repr(sorted((_domain(entry.domain), entry.version) for entry in function.opset_import)).encode()
        for attribute in sorted(function.attribute_proto, key=lambda each: each.name):
            yield from _attribute(attribute, folder)
        yield from _nodes(function.node, folder)


def _graph(graph: GraphProto, folder: Path) -> Iterable[bytes]:
    for values in (graph.input, graph.output):
        for value in values:
            yield value.name.encode()
            yield value.type.SerializeToString(deterministic=True)
        yield b"|"
    for tensor in sorted(graph.initializer, key=lambda each: each.name):
        yield from _tensor(tensor, folder)
    for sparse in sorted(graph.sparse_initializer, key=lambda each: each.values.name):
        yield repr(list(sparse.dims)).encode()
        yield from _tensor(sparse.values, folder)
        yield from _tensor(sparse.indices, folder)
    yield from _nodes(graph.node, folder)


def _nodes(nodes: Iterable[NodeProto], folder: Path) -> Iterable[bytes]:
    for node in nodes:
        overload = getattr(node, "overload", "")
        yield repr((node.op_type, _domain(node.domain), overload, list(node.input), list(node.output))).encode()
        for attribute in sorted(node.attribute, key=lambda each: each.name):
            yield from _attribute(attribute, folder)
    yield b"end"


def _attribute(attribute: AttributeProto, folder: Path) -> Iterable[bytes]:
    graphs = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    tensors = [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
    if not graphs and not tensors:
        plain = type(attribute).FromString(attribute.SerializeToString())
        plain.ClearField("doc_string")
        yield plain.SerializeToString(deterministic=True)
        return
    yield repr((attribute.name, attribute.type, len(graphs), len(tensors))).encode()
    for tensor in tensors:
        yield from _tensor(tensor, folder, named=False)
    for graph in graphs:
        yield from _graph(graph, folder)


def _tensor(tensor: TensorProto, folder: Path, *, named: bool = True) -> Iterable[bytes]:
    yield repr((tensor.name if named else "", tensor.data_type, list(tensor.dims))).encode()
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        tensor = type(tensor).FromString(tensor.SerializeToString())
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    if tensor.HasField("raw_data"):
        yield tensor.raw_data
    elif tensor.data_type == onnx.TensorProto.STRING:
        yield repr(list(tensor.string_data)).encode()
    else:
        yield _raw(tensor)


def _raw(tensor: TensorProto) -> bytes:
    """Bytes of a tensor whose numbers are kept in a typed field, as ``raw_data`` would have them.

    4-bit numbers, which ``raw_data`` packs, come out unpacked: these tensors then differ from packed ones of the same numbers.
    """
    content: bytes = onnx.numpy_helper.to_array(tensor).tobytes()
    return content


def _domain(name: str) -> str:
    return "" if name in MAIN_DOMAINS else name
