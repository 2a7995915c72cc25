"""A model in brief: all that rules and forecasts see of it; no tensor's data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import onnx

from harness.quantize.model.graph import MAIN_DOMAINS, is_quantized, nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from onnx import ModelProto, NodeProto, TensorProto

    from harness.quantize.model.model import SourceModel

T = onnx.TensorProto
FLOATS: Mapping[int, int] = {T.FLOAT: 4, T.FLOAT16: 2, T.BFLOAT16: 2, T.DOUBLE: 8}
RANDOM = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"})
# Where operators take the weights that quantizers look for; anything else that is constant is an operand.
WEIGHT_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "MatMul": (1,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "Attention": (1,),
    "Gather": (0,),
    "EmbedLayerNormalization": (2, 3, 4),
}
BIAS_INPUT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


@dataclass(frozen=True)
class Constant:
    """A stored float tensor that a node takes.

    Attributes:
        name: the tensor's.
        dims: its shape.
        itemsize: bytes of a number.
        packed: whether tools write its numbers as bytes; those of Constant nodes they write one by one.
    """

    name: str
    dims: tuple[int, ...]
    itemsize: int = 4
    packed: bool = True

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return prod(self.dims)


@dataclass(frozen=True)
class Node:
    """A node of the main graph.

    Attributes:
        kind: the op type.
        name: empty if it has none.
        inputs: names, empty where one is left out.
        outputs: names.
        constants: by input, the stored float tensors that it takes.
        mode: of Resize and Upsample.
        turned: whether a Gemm takes its weights transposed.
        group: of Conv and ConvTranspose.
        is_plain: false for a Gemm with alpha, beta or transA.
    """

    kind: str
    name: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    constants: Mapping[int, Constant] = field(default_factory=dict)
    mode: str = ""
    turned: bool = False
    group: int = 1
    is_plain: bool = True

    @property
    def weights(self) -> tuple[Constant, ...]:
        """The constants where the operator takes its weights."""
        return tuple(self.constants[place] for place in WEIGHT_INPUTS.get(self.kind, ()) if place in self.constants)

    @property
    def has_computed_bias(self) -> bool:
        """Whether the operator takes a bias, and this node's is computed while the model runs."""
        place = BIAS_INPUT.get(self.kind, len(self.inputs))
        return place < len(self.inputs) and bool(self.inputs[place]) and place not in self.constants

    @property
    def lacks_weight(self) -> bool:
        """Whether the operator takes a weight, and this node's is computed while the model runs."""
        places = WEIGHT_INPUTS.get(self.kind, ())
        return bool(places) and places[0] not in self.constants


@dataclass(frozen=True)
class Summary:
    """A model in brief.

    Attributes:
        opset: version of the standard operator set.
        ir_version: of the file format.
        size: bytes, external data included.
        nodes: of the main graph; Constant nodes are left out, for what they hold is a constant.
        nested: nodes by op type in the bodies of If, Loop and Scan and in the model's functions.
        parameters: bytes of all stored floats.
        quantized: whether any node works on quantized numbers.
    """

    opset: int
    ir_version: int
    size: int
    nodes: tuple[Node, ...]
    nested: Mapping[str, int] = field(default_factory=dict)
    parameters: int = 0
    quantized: bool = False

    @property
    def kinds(self) -> Counter[str]:
        """Nodes of the main graph by op type."""
        return Counter(node.kind for node in self.nodes)


def summarize(model: SourceModel) -> Summary:
    """Describe a model; its tensors' data are not looked at, so they need not be loaded."""
    proto = model.proto
    constants, fixed, computed = _constants(proto)
    everything = Counter(node.op_type for node in nodes(proto))
    main = Counter(node.op_type for node in proto.graph.node)
    return Summary(
        opset=model.opset,
        ir_version=model.ir_version,
        size=model.size,
        nodes=tuple(_node(node, constants, fixed) for node in proto.graph.node if not computed.issuperset(node.output)),
        nested=dict(everything - main),
        parameters=sum(tensor.count * tensor.itemsize for tensor in constants.values()),
        quantized=any(is_quantized(kind) for kind in everything),
    )


def _constants(proto: ModelProto) -> tuple[dict[str, Constant], set[str], set[str]]:
    """Find the stored float tensors by name, all names that are known before the model runs, and of these the nodes' outputs.

    A node that takes nothing but constants is one too: the preparation computes it once.
    """
    graph = proto.graph
    fed = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    found = {tensor.name: constant for tensor in graph.initializer if (constant := _stored(tensor, tensor.name))}
    fixed = {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}
    computed: set[str] = set()
    for node in graph.node:
        taken = [name for name in node.input if name]
        bodies = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.HasField("t") and (constant := _stored(attribute.t, node.output[0], packed=False)):
                    found[node.output[0]] = constant
        elif not taken or bodies or node.op_type in RANDOM or not fixed.issuperset(taken) or is_quantized(node.op_type):
            continue
        elif constant := _moved(node, found):
            found[node.output[0]] = constant
        fixed.update(node.output)
        computed.update(node.output)
    return found, fixed, computed - fed


def _moved(node: NodeProto, found: Mapping[str, Constant]) -> Constant | None:
    """The constant that Identity or Transpose makes of another."""
    source = found.get(node.input[0])
    if source is None or node.op_type not in {"Identity", "Transpose"}:
        return None
    dims = source.dims
    if node.op_type == "Transpose":
        order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), [])
        dims = tuple(dims[axis] for axis in order) if sorted(order) == list(range(len(dims))) else dims[::-1]
    return Constant(node.output[0], dims, source.itemsize, source.packed)


def _stored(tensor: TensorProto, name: str, *, packed: bool = True) -> Constant | None:
    itemsize = FLOATS.get(tensor.data_type)
    return Constant(name, tuple(tensor.dims), itemsize, packed) if itemsize else None


def _node(node: NodeProto, constants: Mapping[str, Constant], fixed: set[str]) -> Node:
    kind = node.op_type if node.domain in MAIN_DOMAINS or node.domain == "com.microsoft" else f"{node.domain}.{node.op_type}"
    taken = {place: constants[name] for place, name in enumerate(node.input) if name in constants}
    for place in WEIGHT_INPUTS.get(kind, ()):
        # A weight that the preparation computes: how large it is, is not known here.
        if place not in taken and place < len(node.input) and node.input[place] in fixed:
            taken[place] = Constant(node.input[place], ())
    return Node(
        kind=kind,
        name=node.name,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        constants=taken,
        mode=_mode(node.attribute) if kind in {"Resize", "Upsample"} else "",
        turned=kind == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute),
        group=next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1),
        is_plain=kind != "Gemm" or not any(_changes_gemm(attribute) for attribute in node.attribute),
    )


def _changes_gemm(attribute: onnx.AttributeProto) -> bool:
    return (attribute.name in {"alpha", "beta"} and attribute.f != 1) or (attribute.name == "transA" and bool(attribute.i))


def _mode(attributes: Iterable[onnx.AttributeProto]) -> str:
    return next((attribute.s.decode(errors="replace") for attribute in attributes if attribute.name == "mode"), "nearest")
