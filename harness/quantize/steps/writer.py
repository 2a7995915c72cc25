"""Adds constants and nodes to a graph that a preparation step rewrites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import TensorProto, helper, numpy_helper

from harness.quantize.model.graph import all_inputs, free_name, sort_nodes, tensor_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto


class Writer:
    """Adds constants and nodes to a graph."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._taken = tensor_names(model) | {node.name for node in model.graph.node}
        self._dropped: set[str] = set()
        self.constants = Constants(model.graph)

    def name(self, name: str) -> str:
        """Reserve a name that is free."""
        found = free_name(name, self._taken)
        self._taken.add(found)
        return found

    def constant(self, array: NDArray[np.generic], name: str) -> str:
        """Store a constant."""
        tensor = numpy_helper.from_array(array, self.name(name))
        self._model.graph.initializer.append(tensor)
        return tensor.name

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:  # noqa: ANN401 - whatever the operator takes
        """Add a node of one output."""
        output = self.name(name)
        self._model.graph.node.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def replace(self, node: NodeProto, place: int, name: str) -> None:
        """Give a node another input."""
        self._dropped.add(node.input[place])
        node.input[place] = name

    def spread(self, values: str, places: NDArray[np.int64] | str, base: NDArray[np.generic] | str, name: str) -> str:
        """Put values of a tensor at these places of another: as a constant, if all of them are."""
        given = self.constants.read(values)
        if given is not None and not given.size:  # an empty tensor stands for none
            return values
        if given is not None and not isinstance(places, str) and not isinstance(base, str):
            full = base.astype(given.dtype)
            full[places] = given
            return self.constant(full, name)
        if not isinstance(places, str):
            places = self.constant(places, f"{name}_places")
        if not isinstance(base, str):
            base = self.constant(base, f"{name}_others")
        return self.node("ScatterElements", [base, places, values], name, axis=0)

    def close(self) -> None:
        """Sort the nodes, and drop constants that nothing takes any more."""
        uses = all_inputs(self._model)
        stored = self._model.graph.initializer
        for tensor in [tensor for tensor in stored if tensor.name in self._dropped and not uses[tensor.name]]:
            stored.remove(tensor)
        sort_nodes(self._model)


class Constants:
    """The small constants of a graph."""

    def __init__(self, graph: GraphProto) -> None:
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                name = node.output[0]
                self._stored.update((name, each.t) for each in node.attribute if each.name == "value")

    def read(self, name: str) -> NDArray[np.int64] | None:
        """Read a constant; None if the tensor is computed, or not given."""
        tensor = self._stored.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)
