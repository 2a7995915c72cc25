"""Normalizations and activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from families import forms
from families.layers import ACTIVATIONS, act, batch_norm, conv, linear, pooled
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net

LATER = {"mish-op", "gelu-op"}


@pattern(activation=tuple(sorted(set(ACTIVATIONS) - LATER)), opset=(13,))
def activated(net: Net, activation: str) -> None:
    """Convolutions and a linear layer with an activation between."""
    x = act(net, conv(net, net.input("x", [1, 3, 12, 12], "image"), 3, 8), activation)
    x = act(net, conv(net, x, 8, 8), activation)
    net.output(linear(net, pooled(net, x), 8, 5))


@pattern(activation=tuple(sorted(LATER)), opset=(20, 22))
def activated_later(net: Net, activation: str) -> None:
    """The same with operators that came late."""
    x = act(net, conv(net, net.input("x", [1, 3, 12, 12], "image"), 3, 8), activation)
    net.output(linear(net, pooled(net, act(net, conv(net, x, 8, 8), activation)), 8, 5))


@pattern(groups=(1, 2, 8), opset=(11, 18, 21))
def group_norm(net: Net, groups: int) -> None:
    """GroupNorm between convolutions: the operator where there is one."""
    x = conv(net, net.input("x", [1, 3, 12, 12], "image"), 3, 8)
    net.output(conv(net, act(net, forms.group_norm(net, x, 8, groups), "silu"), 8, 4))


@pattern(form=("op", "nodes"), norm=("layer", "rms"), opset=(15, 23))
def row_norm(net: Net, form: str, norm: str) -> None:
    """A norm of rows between two linear layers."""
    x = linear(net, net.input("x", [1, 6, 12]), 12, 16)
    x = forms.layer_norm(net, x, 16, form) if norm == "layer" else forms.rms_norm(net, x, 16, form)
    net.output(linear(net, x, 16, 8))


@pattern(relu=(False, True), norm=("instance", "batch", "lrn", "l2"))
def map_norm(net: Net, relu: bool, norm: str) -> None:
    """A norm of maps between two convolutions."""
    x = conv(net, net.input("x", [1, 3, 12, 12], "image"), 3, 8)
    x = net.op("Relu", x) if relu else x
    if norm == "instance":
        x = net.op("InstanceNormalization", x, net.const(1 + 0.2 * net.rng.normal(size=8)), net.bias(8))
    elif norm == "batch":
        x = batch_norm(net, x, 8)
    elif norm == "lrn":
        x = net.op("LRN", x, size=3)
    else:
        x = net.op("LpNormalization", x, axis=1, p=2)
    net.output(conv(net, x, 8, 4))


@pattern(low=(-1, 1, 2), high=(3, 6), between=("none", "reshape", "transpose", "pool", "resize", "split"), opset=(13,))
def clipped(net: Net, low: int, high: int, between: str) -> None:
    """Clip to a range, perhaps one without 0, with something between it and the convolution."""
    x = conv(net, net.input("x", [1, 3, 12, 12], "image"), 3, 8)
    x = net.op("Mul", x, net.const(3.0)) if low < 0 else x
    if between == "reshape":
        x = forms.reshape(net, x, 1, 4, 24, 12)
    elif between == "transpose":
        x = net.op("Transpose", x, perm=[0, 2, 3, 1])
    elif between == "pool":
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    elif between == "resize":
        x = forms.upsample(net, x)
    elif between == "split":
        x, rest = forms.split(net, x, [4, 4], 1)
        net.output(rest)
    net.output(forms.clip(net, x, float(low), float(high)))


@pattern(shape=("scalar", "channel", "full"))
def learnt_slope(net: Net, shape: str) -> None:
    """PRelu with slopes of each shape, negative ones too."""
    x = conv(net, net.input("x", [1, 3, 8, 8], "image"), 3, 8)
    sizes = {"scalar": (1,), "channel": (8, 1, 1), "full": (8, 8, 8)}[shape]
    net.output(conv(net, net.op("PRelu", x, net.const(0.25 * net.rng.normal(size=sizes))), 8, 4, 1))


@pattern(before=("relu", "clip", "sigmoid", "add", "softmax"), consumers=(1, 2))
def output_before(net: Net, before: str, consumers: int) -> None:
    """A tensor that is an output too, before something narrows it."""
    x = conv(net, net.input("x", [1, 3, 12, 12], "image"), 3, 8)
    after = {
        "relu": lambda: net.op("Relu", x),
        "clip": lambda: forms.clip(net, x, 0.0, 1.0),
        "sigmoid": lambda: net.op("Sigmoid", x),
        "add": lambda: net.op("Add", x, net.const(100.0)),
        "softmax": lambda: net.op("Softmax", x, axis=3),
    }[before]()
    net.output(x, conv(net, after, 8, 4, 1))
    if consumers > 1:
        net.output(conv(net, x, 8, 4, 1))
