"""How a model is written down: bodies, constants of every kind, names, shared tensors, Gemm's attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from families import forms
from families.layers import conv, gemm, linear, pooled
from families.net import SAMPLES
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net


def features(net: Net) -> str:
    """Quantizable features, [1, 4, 8, 8]."""
    return net.op("Relu", conv(net, net.input("x", [1, 3, 8, 8], "image"), 3, 4))


def declared(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> object:
    """Describe a tensor of a body."""
    return helper.make_tensor_value_info(name, kind, shape)


@pattern(takes=("activation", "weight", "both", "input"), opset=(11, 16))
def if_body(net: Net, takes: str) -> None:
    """If whose branches take tensors of the outer graph."""
    x = features(net)
    weight = net.weight(4, 4, 1, 1) if takes in {"weight", "both"} else None
    condition = net.op("Greater", forms.reduce(net, "ReduceMax", x, 0, 1, 2, 3, keep=False), net.const(1.5))
    branches = []
    for factor in (1.0, 0.5):
        body = net.body()
        taken = "x" if takes == "input" else x
        if takes == "input":
            taken = body.op("Conv", taken, body.weight(4, 3, 1, 1))
        y = body.op("Conv", taken, weight) if weight else taken
        y = body.op("Mul", y, body.const(factor))
        body.outputs.append(declared(y, [1, 4, 8, 8]))  # type: ignore[arg-type]
        branches.append(body.graph())
    y = net.op("If", condition, then_branch=branches[0], else_branch=branches[1])
    if weight:
        y = net.op("Add", y, net.op("Conv", x, weight))
    net.output(conv(net, y, 4, 3, 1))


@pattern(takes=("activation", "weight"), opset=(11, 17))
def loop_body(net: Net, takes: str) -> None:
    """Loop that runs three times over a state, with something of the outer graph."""
    x = features(net)
    weight = net.weight(4, 4, 1, 1)
    body = net.body()
    names = [net.name(stem) for stem in ("iteration", "going", "state")]
    kinds = (TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT)
    body.inputs += [declared(name, shape, kind) for name, shape, kind in zip(names, ([], [], [1, 4, 8, 8]), kinds, strict=True)]  # type: ignore[misc]
    y = body.op("Conv", names[2], weight) if takes == "weight" else body.op("Mul", names[2], body.const(0.5))
    y = body.op("Add", body.op("Tanh", y), x)
    going = body.op("Identity", names[1])
    body.outputs += [declared(going, [], TensorProto.BOOL), declared(y, [1, 4, 8, 8])]  # type: ignore[list-item]
    start = net.op("Conv", x, weight)
    y = net.op("Loop", net.const(3, np.int64), net.const(True, bool), start, body=body.graph())  # noqa: FBT003 - numpy's
    net.output(conv(net, y, 4, 3, 1))


@pattern(takes=("activation", "weight"), opset=(11, 17))
def scan_body(net: Net, takes: str) -> None:
    """Scan over steps with a state and an outer weight."""
    x = linear(net, net.input("x", [6, 8]), 8, 8)
    weight = net.weight(8, 8, fan_in=8)
    outer = forms.reduce(net, "ReduceMean", x, 0, keep=False)
    body = net.body()
    state, step = net.name("state"), net.name("step")
    body.inputs += [declared(state, [8]), declared(step, [8])]  # type: ignore[list-item]
    mixed = body.op("MatMul", state, weight) if takes == "weight" else body.op("Add", state, outer)
    new = body.op("Tanh", body.op("Add", mixed, step))
    body.outputs += [declared(new, [8]), declared(out := body.op("Identity", new), [8])]  # type: ignore[list-item]
    assert out
    first = net.op("MatMul", outer, weight)
    last, every = net.ops("Scan", first, x, into=2, body=body.graph(), num_scan_inputs=1)
    net.output(linear(net, every, 8, 4), last)


@pattern(alpha=(1.0, 0.5), beta=(1.0, 3.0, 0.0), trans=("none", "a", "b", "both"))
def gemm_attributes(net: Net, alpha: float, beta: float, trans: str) -> None:
    """Gemm with factors and transposed operands."""
    x = net.input("x", [6, 8])
    x = linear(net, x, 8, 6 if trans in {"a", "both"} else 8)
    weight = (
        net.weight(5, 6 if trans == "both" else 8)
        if trans in {"b", "both"}
        else net.weight(6 if trans == "a" else 8, 5, fan_in=8)
    )
    more: dict[str, Any] = {"transA": int(trans in {"a", "both"}), "transB": int(trans in {"b", "both"})}
    net.output(net.op("Relu", net.op("Gemm", x, weight, net.bias(5, 1.0), alpha=alpha, beta=beta, **more)))


@pattern(width=("float16", "float64"), what=("weights", "constants", "all"))
def constants_of_other_width(net: Net, width: str, what: str) -> None:
    """Constants in half or double precision, cast where they are used, or the whole model so."""
    dtype = np.dtype(width)
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    if what == "all":
        x = net.input("x", [1, 16], kind=kind)
        for _ in range(2):
            weight = net.const(net.rng.normal(size=(16, 16)) / 4, dtype)
            x = net.op("Relu", net.op("Add", net.op("MatMul", x, weight), net.const(0.3 * net.rng.normal(size=16), dtype)))
        net.output(x, kind=kind)
        return
    x = net.input("x", [1, 3, 8, 8], "image")
    if what == "weights":
        weight, bias = (
            net.op("Cast", net.const(values, dtype), to=TensorProto.FLOAT)
            for values in (net.rng.normal(size=(8, 3, 3, 3)) / 5, 0.3 * net.rng.normal(size=8))
        )
        x = net.op("Conv", x, weight, bias, pads=[1] * 4)
    else:
        x = conv(net, x, 3, 8)
        x = net.op("Cast", net.op("Mul", net.op("Cast", x, to=kind), net.const(2.0, dtype)), to=TensorProto.FLOAT)
    net.output(conv(net, net.op("Relu", x), 8, 4, 1))


@pattern(form=("node", "initializer", "identity"), opset=(11, 17))
def constant_forms(net: Net, form: str) -> None:
    """Weights as initializers, as Constant nodes, or behind an Identity."""
    net.constants = "node" if form == "node" else "initializer"
    x = net.input("x", [1, 3, 8, 8], "image")
    weight = net.weight(8, 3, 3, 3)
    weight = net.op("Identity", weight) if form == "identity" else weight
    x = net.op("Relu", net.op("Conv", x, weight, net.bias(8), pads=[1] * 4))
    net.output(gemm(net, pooled(net, x), 8, 5))


@pattern(where=("weight", "table", "bias"))
def sparse_constant(net: Net, where: str) -> None:
    """A sparse initializer."""
    shape = {"weight": (8, 8), "table": (8, 8), "bias": (8,)}[where]
    dense = np.where(net.rng.random(shape) < 0.4, net.rng.normal(size=shape), 0).astype(np.float32)
    name = net.name("sparse")
    places = np.flatnonzero(dense)
    values = numpy_helper.from_array(dense.ravel()[places], name)
    net.sparse.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(places.astype(np.int64), f"{name}_places"), list(shape))
    )
    if where == "table":
        rows = net.input("rows", [6], net.rng.integers(0, 8, (SAMPLES, 6)), TensorProto.INT64)
        net.output(linear(net, net.op("Gather", name, rows), 8, 5))
    elif where == "weight":
        net.output(linear(net, net.op("MatMul", net.input("x", [4, 8]), name), 8, 5))
    else:
        net.output(net.op("Add", net.op("MatMul", net.input("x", [4, 8]), net.weight(8, 8)), name))


@pattern(
    stem=(
        "w_scale",
        "w_zero_point",
        "w_quantized",
        "x_quantized",
        "x_QuantizeLinear_Output",
        "y_DequantizeLinear_Output",
        "w_quant",
    )
)
def names_of_tools(net: Net, stem: str) -> None:
    """A constant whose name a quantizer generates, too."""
    x = net.input("x", [4, 8])
    weight = net.const(net.rng.normal(size=(8, 8)) / 3, name="w")
    taken = net.const(0.5 + net.rng.random(8), name=stem)
    y = net.op("MatMul", x, weight, into="y")
    net.output(linear(net, net.op("Mul", y, taken), 8, 5))


@pattern(uses=("gemm-and-matmul", "two-convs", "conv-and-gather", "bias-and-mul", "two-axes"))
def one_constant(net: Net, uses: str) -> None:
    """One constant with several users of different kinds."""
    if uses == "two-convs":
        weight, bias = net.weight(4, 4, 3, 3), net.const([0.5, -1, 2, 0])
        x = features(net)
        net.output(
            net.op("Conv", x, weight, bias), net.op("Conv", net.op("Mul", x, net.const(30.0)), weight, bias, dilations=[2, 2])
        )
        return
    x = net.input("x", [4, 8])
    weight = net.const(net.rng.normal(size=(8, 8)) * 2.0 ** net.rng.uniform(-3, 1, (8, 1)) / 2, name="shared")
    if uses == "gemm-and-matmul":
        net.output(net.op("MatMul", x, weight), net.op("Gemm", x, weight, net.bias(8), transB=1))
    elif uses == "conv-and-gather":
        rows = net.op("Gather", weight, net.ints(1, 3, 5))
        net.output(net.op("MatMul", x, weight), net.op("MatMul", x, net.op("Transpose", rows, perm=[1, 0])))
    elif uses == "bias-and-mul":
        bias = net.bias(8, 1.0)
        net.output(net.op("Mul", net.op("Gemm", x, weight, bias), bias))
    else:
        net.output(
            net.op("MatMul", net.op("MatMul", x, weight), weight), net.op("MatMul", x, net.op("Transpose", weight, perm=[1, 0]))
        )


@pattern(equation=("bij,jk->bik", "bij,bjk->bik", "bij->bji", "bhwc,hkc->bhwk"))
def einsum(net: Net, equation: str) -> None:
    """Einsum instead of MatMul and Transpose."""
    left, _, rest = equation.partition(",")
    sizes = {"b": 1, "i": 4, "j": 8, "k": 6, "h": 4, "w": 5, "c": 8}
    x = net.input("x", [sizes[letter] for letter in left.partition("->")[0]])
    right = rest.partition("->")[0]
    x = net.op("Relu", net.op("Add", x, net.const(0.1)))
    more = [net.weight(*(sizes[letter] for letter in right), fan_in=8)] if right else []
    y = net.op("Einsum", x, *more, equation=equation)
    net.output(net.op("MatMul", y, net.weight({"bij->bji": 4}.get(equation, 6), 5, fan_in=6)))


@pattern(kind=("cumsum", "scatter", "gather-elements", "range", "one-hot", "trilu", "tile", "nonzero-free-where"))
def index_work(net: Net, kind: str) -> None:
    """Operators on places and masks between two linear layers."""
    x = linear(net, net.input("x", [6, 8]), 8, 8)
    if kind == "cumsum":
        x = net.op("CumSum", x, net.const(0, np.int64))
    elif kind == "scatter":
        x = net.op("ScatterND", x, net.const([[1], [3]], np.int64), net.const(net.rng.normal(size=(2, 8))))
    elif kind == "gather-elements":
        x = net.op("GatherElements", x, net.const(net.rng.integers(0, 8, (6, 8)), np.int64), axis=1)
    elif kind == "range":
        steps = net.op("Range", net.const(0.0), net.const(8.0), net.const(1.0))
        x = net.op("Add", x, net.op("Div", steps, net.const(8.0)))
    elif kind == "one-hot":
        best = net.op("ArgMax", x, axis=1, keepdims=0)
        x = net.op("Add", x, net.op("OneHot", best, net.const(8, np.int64), net.const([0.0, 1.0]), axis=1))
    elif kind == "trilu":
        x = net.op("Trilu", x, upper=0)
    elif kind == "tile":
        x = forms.cut(net, net.op("Tile", x, net.ints(2, 1)), 0, 3, 9)
    else:
        x = net.op("Where", net.op("Greater", x, net.const(0.0)), x, net.op("Mul", x, net.const(0.1)))
    net.output(linear(net, x, 8, 5))
