"""The node that an error of onnxruntime means, and the one to leave alone for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.quantize.model.graph import nodes_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from onnx import ModelProto, NodeProto

# Messages put the names of nodes and tensors in parentheses or quotes: "output arg (y) of node (cast)", "Node input 'y_cast_to_fp16'".
NAMED = re.compile(r"\(([^()\s]+)\)|'([^'\s]+)'")
# What the converters append to the name of a tensor or node when they put a Cast beside it.
APPENDED = re.compile(r"_(?:input_cast|output_cast|cast_to_)\w*$")


class Suspects:
    """The nodes of a model as a converter may be told to leave them: those of the main graph.

    What is inside of If, Loop and Scan stands for the whole node: the converters put their Casts outside of its bodies.
    """

    def __init__(self, model: ModelProto) -> None:
        self._of_node: dict[str, str] = {}
        self._of_tensor: dict[str, str] = {}
        self._beside: dict[str, list[str]] = {}
        for node in model.graph.node:
            for inner in nodes_in(node):
                self._of_node.setdefault(inner.name, node.name)
                self._of_tensor.update((name, node.name) for name in inner.output if name)
        for node in model.graph.node:
            taken = [self._of_tensor[name] for inner in nodes_in(node) for name in inner.input if name in self._of_tensor]
            for other in taken:
                if other != node.name:
                    self._beside.setdefault(node.name, []).append(other)
                    self._beside.setdefault(other, []).append(node.name)

    def find(self, message: str, known: Collection[str]) -> str | None:
        """Find the node to leave alone.

        Args:
            message: of onnxruntime, when it was given what a converter made of the model.
            known: those that are left alone already.

        Returns:
            The innermost one that the message names, or else the one that makes a tensor that it names; where that is known
            already, a neighbour of it. None if nothing is left to blame.
        """
        blamed = list(self._blamed(message))
        return next(
            (
                name
                for name in [*blamed, *(other for name in blamed for other in self._beside.get(name, []))]
                if name not in known
            ),
            None,
        )

    def _blamed(self, message: str) -> Iterator[str]:
        words = [one or other for one, other in NAMED.findall(message)][::-1]
        words += [APPENDED.sub("", word) for word in words]
        for known in (self._of_node, self._of_tensor):
            yield from (known[word] for word in words if word in known)


def name_all(node: NodeProto) -> None:
    """Give, in place, each unnamed node inside of a node a name, so that an error can name it."""
    for index, inner in enumerate(nodes_in(node)):
        if not inner.name:
            inner.name = f"{node.name}.{inner.op_type}_{index}"
