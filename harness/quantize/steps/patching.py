"""Replaces parts of onnxruntime's quantizers while a variant is made, and puts them back.

The tools are one process's globals, so this is only safe inside :func:`harness.quantize.quiet.quiet`, which lets one thread in at a time.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from onnx import numpy_helper

from harness.quantize.model.graph import inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping

    from onnx import NodeProto
    from onnx.onnx_pb import TensorProto


@contextmanager
def entries(table: MutableMapping[str, Any], new: MutableMapping[str, Any]) -> Iterator[None]:
    """Replace entries of a table, such as a registry of operators; those that were there before come back."""
    old = {key: table[key] for key in new}
    table.update(new)
    try:
        yield
    finally:
        table.update(old)


@contextmanager
def methods(owner: type, **new: Callable[..., Any]) -> Iterator[None]:
    """Replace methods of a class; those that were there before come back."""
    old = {name: vars(owner)[name] for name in new}
    with ExitStack() as stack:
        for name, method in new.items():
            stack.callback(setattr, owner, name, old[name])
            setattr(owner, name, method)
        yield


def captured(nodes: Iterable[NodeProto]) -> set[str]:
    """Name the tensors that the bodies of If, Loop and Scan take; those that are made inside a body are among them."""
    found: set[str] = set()
    for node in nodes:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                found.update(value.name for value in graph.output)
        for inner in inside(node):
            found.update(inner.input)
            for attribute in inner.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    found.update(value.name for value in graph.output)
    return found - {""}


def constant(quantizer: Any, name: str) -> Any:  # noqa: ANN401 - onnxruntime is not typed
    """Read an initializer or a Constant node of the model that a quantizer works on.

    Returns:
        An array, or None if the tensor is computed.
    """
    tensor: TensorProto | None = quantizer.model.get_initializer(name)
    if tensor is not None:
        return numpy_helper.to_array(tensor)
    return quantizer.model.get_constant_value(name)
