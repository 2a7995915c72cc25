"""A model under construction: nodes, constants with seeded random weights, and the data to feed it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

SAMPLES = 16
# The IR version that came with each operator set; a newer one would keep older runtimes from loading the model.
IR_VERSIONS = {9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
Form = Literal["initializer", "node"]


class Net:
    """Collects a graph; every tensor is known by its name.

    Attributes:
        opset: version of the standard operator set.
        rng: for weights and data, seeded.
        constants: whether constants become initializers or Constant nodes.
        count: how often each name was given out.
        feeds: for each input an array of :data:`SAMPLES` whole inputs.
    """

    def __init__(self, opset: int, seed: int = 0, parent: Net | None = None) -> None:
        self.opset = opset
        self.rng: np.random.Generator = parent.rng if parent else np.random.default_rng(seed)
        self.constants: Form = "initializer"
        self.feeds: dict[str, NDArray[Any]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.sparse: list[onnx.SparseTensorProto] = []
        self.domains: dict[str, int] = {}
        self.count: dict[str, int] = parent.count if parent else {}

    def name(self, stem: str) -> str:
        """A name that is not in use: the first one is the stem itself."""
        number = self.count.get(stem, 0)
        self.count[stem] = number + 1
        return f"{stem}_{number}" if number else stem

    def input(
        self, name: str, shape: Sequence[int | str], values: ArrayLike | str = "normal", kind: int = TensorProto.FLOAT
    ) -> str:
        """Add an input.

        Args:
            name: its name.
            shape: a size that is a word is open; it is 1 in the data unless ``values`` says otherwise.
            values: an array [SAMPLES, *shape], or ``normal``, ``unit`` (0..1), ``pixels`` (0..255) or ``image`` (smooth).
            kind: its element type.
        """
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        sizes = [SAMPLES, *(1 if isinstance(size, str) else size for size in shape)]
        array = self._drawn(values, sizes) if isinstance(values, str) else np.asarray(values)
        self.feeds[name] = array.astype(helper.tensor_dtype_to_np_dtype(kind))
        return name

    def _drawn(self, values: str, sizes: Sequence[int]) -> NDArray[Any]:
        if values == "unit":
            return self.rng.random(sizes)
        if values == "pixels":
            return self.rng.integers(0, 256, sizes)
        array = self.rng.normal(size=sizes)
        if values == "image":
            for axis in (-1, -2):
                array = (array + np.roll(array, 1, axis) + np.roll(array, 2, axis)) / math.sqrt(3)
        return array

    def const(self, values: ArrayLike, dtype: DTypeLike = np.float32, name: str = "const") -> str:
        """Add a constant."""
        name = self.name(name)
        tensor = numpy_helper.from_array(np.asarray(values, dtype), name)
        if self.constants == "node":
            self.nodes.append(helper.make_node("Constant", [], [name], name=self.name("Constant"), value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def ints(self, *values: int) -> str:
        """Add a constant vector of int64, such as a shape or axes."""
        return self.const(values, np.int64, "ints")

    def weight(self, *shape: int, fan_in: int | None = None, gain: float = 1.0, name: str = "weight") -> str:
        """Add weights that keep the size of what passes through; by default the fan-in is that of a convolution."""
        size = fan_in or math.prod(shape[1:]) or 1
        return self.const(gain * self.rng.normal(size=shape) / math.sqrt(size), name=name)

    def bias(self, size: int, gain: float = 0.3) -> str:
        """Add a bias."""
        return self.const(gain * self.rng.normal(size=size), name="bias")

    def op(self, kind: str, *inputs: str, into: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.ops(kind, *inputs, into=(into or self.name(kind.lower()),), domain=domain, **attributes)[0]

    def ops(self, kind: str, *inputs: str, into: int | tuple[str, ...], domain: str = "", **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs: their names or how many."""
        names = into if isinstance(into, tuple) else tuple(self.name(kind.lower()) for _ in range(into))
        if domain:
            self.domains[domain] = 1
        node = helper.make_node(kind, list(inputs), list(names), name=self.name(f"node_{kind}"), domain=domain, **attributes)
        self.nodes.append(node)
        return names

    def output(self, *tensors: str, kind: int = TensorProto.FLOAT) -> None:
        """Make tensors outputs of the graph."""
        self.outputs += [helper.make_tensor_value_info(tensor, kind, None) for tensor in tensors]

    def body(self) -> Net:
        """Begin the body of an If, Loop or Scan: it shares names and random numbers with this graph."""
        return Net(self.opset, parent=self)

    def graph(self, name: str = "g") -> onnx.GraphProto:
        """Give the graph as it is."""
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.initializers)
        graph.sparse_initializer.extend(self.sparse)
        return graph

    def model(self) -> onnx.ModelProto:
        """Give the checked model, with the shapes of its outputs."""
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(name, at) for name, at in self.domains.items())]
        model = helper.make_model(self.graph(), opset_imports=imports, ir_version=IR_VERSIONS[self.opset])
        found = onnx.shape_inference.infer_shapes(model).graph.output
        for place, (declared, inferred) in enumerate(zip(model.graph.output, found, strict=True)):
            if inferred.type.tensor_type.HasField("shape"):
                declared.type.tensor_type.shape.CopyFrom(inferred.type.tensor_type.shape)
            else:
                rank = np.ndim(self._run(model)[place])
                kind = declared.type.tensor_type.elem_type
                declared.CopyFrom(
                    helper.make_tensor_value_info(declared.name, kind, [f"{declared.name}_{axis}" for axis in range(rank)])
                )
        if not self.domains:
            onnx.checker.check_model(model)
        return model

    def _run(self, model: onnx.ModelProto) -> Sequence[NDArray[Any]]:
        """Run the model on its first sample."""
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found: Sequence[NDArray[Any]] = session.run(None, {name: array[0] for name, array in self.feeds.items()})
        return found
