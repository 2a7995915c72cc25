"""Layers that the families share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from families import forms

if TYPE_CHECKING:
    from collections.abc import Callable

    from families.net import Net


def conv(
    net: Net,
    tensor: str,
    inputs: int,
    outputs: int,
    size: int = 3,
    *,
    groups: int = 1,
    bias: bool = True,
    axes: int = 2,
    **attributes: Any,
) -> str:
    """Convolve with weights of its own; pads so that the size stays unless told otherwise."""
    if "auto_pad" not in attributes:
        reach = attributes.get("dilations", [1])[0] * (size - 1) // 2
        attributes.setdefault("pads", [reach] * (2 * axes))
    constants = [
        net.weight(outputs, inputs // groups, *[size] * axes, name="conv.weight"),
        *([net.bias(outputs)] if bias else []),
    ]
    return net.op("Conv", tensor, *constants, group=groups, **attributes)


def linear(net: Net, tensor: str, inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0) -> str:
    """MatMul with a constant, and Add."""
    product = net.op("MatMul", tensor, net.weight(inputs, outputs, fan_in=inputs, gain=gain, name="linear.weight"))
    return net.op("Add", product, net.bias(outputs)) if bias else product


def gemm(net: Net, tensor: str, inputs: int, outputs: int, **attributes: Any) -> str:
    """Gemm as PyTorch exports a Linear: the weight transposed."""
    weight = net.weight(outputs, inputs, name="fc.weight")
    return net.op("Gemm", tensor, weight, net.bias(outputs), transB=1, **attributes)


def batch_norm(net: Net, tensor: str, channels: int) -> str:
    """BatchNormalization with statistics of its own."""
    rng = net.rng
    constants = [
        1 + 0.2 * rng.normal(size=channels),
        0.3 * rng.normal(size=channels),
        0.3 * rng.normal(size=channels),
        0.5 + rng.random(channels),
    ]
    return net.op("BatchNormalization", tensor, *(net.const(values, name="bn") for values in constants))


def pooled(net: Net, tensor: str) -> str:
    """[N, C, H, W] to [N, C]."""
    return net.op("Flatten", net.op("GlobalAveragePool", tensor), axis=1)


def heads(net: Net, tensor: str, length: int, count: int, size: int, *, transposed: bool = False) -> str:
    """[N, length, count·size] to [N, count, length, size], or its transpose for keys."""
    return net.op(
        "Transpose", forms.reshape(net, tensor, 0, length, count, size), perm=[0, 2, 3, 1] if transposed else [0, 2, 1, 3]
    )


def joined(net: Net, tensor: str, length: int, count: int, size: int) -> str:
    """[N, count, length, size] to [N, length, count·size]."""
    return forms.reshape(net, net.op("Transpose", tensor, perm=[0, 2, 1, 3]), 0, length, count * size)


def _mish(net: Net, tensor: str) -> str:
    return net.op("Mul", tensor, net.op("Tanh", net.op("Softplus", tensor)))


ACTIVATIONS: dict[str, Callable[[Net, str], str]] = {
    "relu": lambda net, x: net.op("Relu", x),
    "relu6": lambda net, x: forms.clip(net, x, 0.0, 6.0),
    "leaky": lambda net, x: net.op("LeakyRelu", x, alpha=0.1),
    "prelu": lambda net, x: net.op("PRelu", x, net.const(np.full((1, 1, 1), 0.25))),
    "sigmoid": lambda net, x: net.op("Sigmoid", x),
    "tanh": lambda net, x: net.op("Tanh", x),
    "silu": lambda net, x: net.op("Mul", x, net.op("Sigmoid", x)),
    "hardswish": forms.hard_swish,
    "hardswish-clip": lambda net, x: net.op(
        "Div", net.op("Mul", x, forms.clip(net, net.op("Add", x, net.const(3.0)), 0.0, 6.0)), net.const(6.0)
    ),
    "hardsigmoid": lambda net, x: net.op("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "gelu-erf": forms.gelu,
    "gelu-tanh": lambda net, x: forms.gelu(net, x, "tanh"),
    "gelu-op": lambda net, x: forms.gelu(net, x, "op"),
    "elu": lambda net, x: net.op("Elu", x, alpha=1.0),
    "selu": lambda net, x: net.op("Selu", x),
    "celu": lambda net, x: net.op("Celu", x, alpha=1.0),
    "mish": _mish,
    "mish-op": lambda net, x: net.op("Mish", x),
    "softplus": lambda net, x: net.op("Softplus", x),
    "softsign": lambda net, x: net.op("Softsign", x),
}


def act(net: Net, tensor: str, kind: str) -> str:
    """Apply an activation by name."""
    return ACTIVATIONS[kind](net, tensor)
