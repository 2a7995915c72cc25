"""Operators whose form differs between operator sets: attributes that became inputs, and operators that came later."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from families.net import Net

REDUCE_AXES_INPUT = {"ReduceSum": 13}  # all others: 18


def axes_of(net: Net, kind: str, tensor: str, axes: Sequence[int], since: int = 13) -> str:
    """Squeeze or Unsqueeze."""
    if net.opset >= since:
        return net.op(kind, tensor, net.ints(*axes))
    return net.op(kind, tensor, axes=list(axes))


def unsqueeze(net: Net, tensor: str, *axes: int) -> str:
    """Add axes."""
    return axes_of(net, "Unsqueeze", tensor, axes)


def squeeze(net: Net, tensor: str, *axes: int) -> str:
    """Drop axes."""
    return axes_of(net, "Squeeze", tensor, axes)


def reduce(net: Net, kind: str, tensor: str, *axes: int, keep: bool = True) -> str:
    """Reduce axes by an operator such as ReduceMean."""
    if net.opset >= REDUCE_AXES_INPUT.get(kind, 18):
        return net.op(kind, tensor, net.ints(*axes), keepdims=int(keep))
    return net.op(kind, tensor, axes=list(axes), keepdims=int(keep))


def clip(net: Net, tensor: str, low: float | None, high: float | None) -> str:
    """Clip to a range with one or both ends."""
    if net.opset < 11:
        ends: dict[str, Any] = {"min": low, "max": high}
        return net.op("Clip", tensor, **{key: end for key, end in ends.items() if end is not None})
    inputs = [net.const(end) if end is not None else "" for end in (low, high)]
    return net.op("Clip", tensor, *(inputs if inputs[1] else inputs[:1]))


def pad(net: Net, tensor: str, pads: Sequence[int], mode: str = "constant", value: float | str = 0.0) -> str:
    """Pad; the value may be the name of a constant."""
    if net.opset < 11:
        return net.op("Pad", tensor, pads=list(pads), mode=mode, value=value)
    if mode != "constant":
        return net.op("Pad", tensor, net.ints(*pads), mode=mode)
    return net.op("Pad", tensor, net.ints(*pads), value if isinstance(value, str) else net.const(value), mode=mode)


def upsample(net: Net, tensor: str, scale: float = 2.0, mode: str = "nearest", coordinates: str = "asymmetric") -> str:
    """Scale the last two of four axes; the coordinates mean something from operator set 11 on."""
    scales = net.const([1.0, 1.0, scale, scale])
    if net.opset < 11:
        return net.op("Upsample" if net.opset < 10 else "Resize", tensor, scales, mode=mode)
    roi = net.const(np.zeros(0)) if net.opset < 13 else ""
    more = {"nearest_mode": "floor"} if mode == "nearest" else {}
    return net.op("Resize", tensor, roi, scales, mode=mode, coordinate_transformation_mode=coordinates, **more)


def split(net: Net, tensor: str, sizes: Sequence[int], axis: int) -> tuple[str, ...]:
    """Split into parts of the given sizes."""
    if net.opset < 13:
        return net.ops("Split", tensor, into=len(sizes), axis=axis, split=list(sizes))
    return net.ops("Split", tensor, net.ints(*sizes), into=len(sizes), axis=axis)


def cut(net: Net, tensor: str, axis: int, start: int, end: int, step: int = 1) -> str:
    """Slice one axis; operator set 9 has no steps."""
    if net.opset < 10:
        return net.op("Slice", tensor, axes=[axis], starts=[start], ends=[end])
    return net.op("Slice", tensor, net.ints(start), net.ints(end), net.ints(axis), net.ints(step))


def top_k(net: Net, tensor: str, count: int, axis: int = -1) -> tuple[str, str]:
    """Give the largest values and their places."""
    if net.opset < 10:
        values, places = net.ops("TopK", tensor, into=2, k=count, axis=axis)
    else:
        values, places = net.ops("TopK", tensor, net.ints(count), into=2, axis=axis)
    return values, places


def reshape(net: Net, tensor: str, *shape: int) -> str:
    """Give another shape."""
    return net.op("Reshape", tensor, net.ints(*shape))


def hard_swish(net: Net, tensor: str) -> str:
    """X · hardsigmoid(x) with slope 1/6: an operator from 14 on."""
    if net.opset >= 14:
        return net.op("HardSwish", tensor)
    return net.op("Mul", tensor, net.op("HardSigmoid", tensor, alpha=1 / 6, beta=0.5))


def gelu(net: Net, tensor: str, form: str = "erf") -> str:
    """GELU: as an operator (from 20 on), by Erf, or by Tanh."""
    if form == "op" and net.opset >= 20:
        return net.op("Gelu", tensor)
    half = net.op("Mul", tensor, net.const(0.5))
    if form == "tanh":
        cubic = net.op("Mul", net.op("Pow", tensor, net.const(3.0)), net.const(0.044715))
        inner = net.op("Tanh", net.op("Mul", net.op("Add", tensor, cubic), net.const(math.sqrt(2 / math.pi))))
    else:
        inner = net.op("Erf", net.op("Div", tensor, net.const(math.sqrt(2))))
    return net.op("Mul", half, net.op("Add", inner, net.const(1.0)))


def layer_norm(net: Net, tensor: str, size: int, form: str = "op") -> str:
    """LayerNormalization over the last axis: as an operator (from 17 on) or in nodes."""
    scale, bias = net.const(1 + 0.2 * net.rng.normal(size=size)), net.bias(size)
    if form == "op" and net.opset >= 17:
        return net.op("LayerNormalization", tensor, scale, bias, axis=-1)
    centred = net.op("Sub", tensor, reduce(net, "ReduceMean", tensor, -1))
    variance = reduce(net, "ReduceMean", net.op("Pow", centred, net.const(2.0)), -1)
    normed = net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, net.const(1e-5))))
    return net.op("Add", net.op("Mul", normed, scale), bias)


def rms_norm(net: Net, tensor: str, size: int, form: str = "nodes") -> str:
    """RMSNorm over the last axis: as an operator (from 23 on) or in nodes."""
    scale = net.const(1 + 0.2 * net.rng.normal(size=size))
    if form == "op" and net.opset >= 23:
        return net.op("RMSNormalization", tensor, scale, axis=-1)
    power = reduce(net, "ReduceMean", net.op("Pow", tensor, net.const(2.0)), -1)
    root = net.op("Reciprocal", net.op("Sqrt", net.op("Add", power, net.const(1e-6))))
    return net.op("Mul", net.op("Mul", tensor, root), scale)


def group_norm(net: Net, tensor: str, channels: int, groups: int, form: str = "op") -> str:
    """GroupNormalization of [N, C, H, W]: as an operator (from 21 on) or by Reshape and InstanceNormalization as PyTorch exports it."""
    scale, bias = 1 + 0.2 * net.rng.normal(size=channels), 0.3 * net.rng.normal(size=channels)
    if form == "op" and net.opset >= 21:
        return net.op("GroupNormalization", tensor, net.const(scale), net.const(bias), num_groups=groups)
    shape = net.op("Shape", tensor)
    folded = net.op(
        "InstanceNormalization", reshape(net, tensor, 0, groups, -1), net.const(np.ones(groups)), net.const(np.zeros(groups))
    )
    normed = net.op("Reshape", folded, shape)
    return net.op("Add", net.op("Mul", normed, net.const(scale.reshape(-1, 1, 1))), net.const(bias.reshape(-1, 1, 1)))
