"""Residual, dense and squeeze-excite blocks, and the blocks of mobile networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from families import forms
from families.layers import act, batch_norm, conv, linear, pooled
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net

WIDTH = 16


def stem(net: Net, activation: str = "relu") -> str:
    """Make features of an image."""
    return act(net, conv(net, net.input("x", [1, 3, 16, 16], "image"), 3, WIDTH), activation)


def classes(net: Net, tensor: str, width: int = WIDTH) -> None:
    """End in ten classes."""
    net.output(linear(net, pooled(net, tensor), width, 10))


@pattern(order=("post", "pre"), norm=(False, True), activation=("relu", "relu6", "leaky"), opset=(9,))
def residual(net: Net, order: str, norm: bool, activation: str) -> None:
    """Two residual blocks, activated after the sum or before the convolutions."""
    x = stem(net)
    for _ in range(2):
        y = x
        for place in range(2):
            if order == "pre":
                y = act(net, batch_norm(net, y, WIDTH) if norm else y, activation)
            y = conv(net, y, WIDTH, WIDTH, bias=not norm)
            if order == "post":
                y = batch_norm(net, y, WIDTH) if norm else y
                y = act(net, y, activation) if place == 0 else y
        x = net.op("Add", y, x)
        x = act(net, x, activation) if order == "post" else x
    classes(net, x)


@pattern(join=("concat", "add", "mul"), activation=("relu", "silu"))
def dense(net: Net, join: str, activation: str) -> None:
    """Each layer sees all earlier ones: DenseNet, or CSP by a split."""
    x = stem(net, activation)
    if join == "concat":
        for step in range(3):
            x = net.op("Concat", x, act(net, conv(net, x, WIDTH + 8 * step, 8), activation), axis=1)
        classes(net, x, WIDTH + 24)
        return
    left, right = forms.split(net, x, [8, 8], 1)
    for _ in range(2):
        right = net.op("Add" if join == "add" else "Mul", right, act(net, conv(net, right, 8, 8), activation))
    classes(net, net.op("Concat", left, right, axis=1))


@pattern(gate=("sigmoid", "hardsigmoid"), pool=("global", "reduce"), inner=("relu", "silu", "hardswish"))
def squeeze_excite(net: Net, gate: str, pool: str, inner: str) -> None:
    """Channels weighted by a gate computed from their means."""
    x = stem(net, inner)
    mean = net.op("GlobalAveragePool", x) if pool == "global" else forms.reduce(net, "ReduceMean", x, 2, 3)
    weights = act(net, conv(net, act(net, conv(net, mean, WIDTH, 4, 1), inner), 4, WIDTH, 1), gate)
    classes(net, net.op("Mul", x, weights))


@pattern(attention=("spatial", "channel-max", "coordinate"))
def attention_map(net: Net, attention: str) -> None:
    """CBAM's spatial and channel gates, and coordinate attention."""
    x = stem(net)
    if attention == "spatial":
        both = net.op("Concat", forms.reduce(net, "ReduceMean", x, 1), forms.reduce(net, "ReduceMax", x, 1), axis=1)
        gate = net.op("Sigmoid", conv(net, both, 2, 1, 7))
    elif attention == "channel-max":
        weight, bias = net.weight(WIDTH, WIDTH, 1, 1), net.bias(WIDTH)
        sums = [net.op("Conv", net.op(kind, x), weight, bias) for kind in ("GlobalAveragePool", "GlobalMaxPool")]
        gate = net.op("Sigmoid", net.op("Add", *sums))
    else:
        rows, columns = forms.reduce(net, "ReduceMean", x, 3), forms.reduce(net, "ReduceMean", x, 2)
        both = net.op("Concat", rows, net.op("Transpose", columns, perm=[0, 1, 3, 2]), axis=2)
        first, second = forms.split(net, act(net, conv(net, both, WIDTH, WIDTH, 1), "hardswish"), [16, 16], 2)
        second = net.op("Transpose", second, perm=[0, 1, 3, 2])
        gate = net.op("Mul", *(net.op("Sigmoid", conv(net, part, WIDTH, WIDTH, 1)) for part in (first, second)))
    net.output(net.op("Mul", x, gate))


@pattern(activation=("relu6", "hardswish", "hardswish-clip", "silu", "gelu-erf"), gated=(False, True), opset=(14,))
def inverted_residual(net: Net, activation: str, gated: bool) -> None:
    """MobileNet's and EfficientNet's block: expand, depthwise, gate, project."""
    x = stem(net, activation)
    y = act(net, batch_norm(net, conv(net, x, WIDTH, 48, 1, bias=False), 48), activation)
    y = act(net, batch_norm(net, conv(net, y, 48, 48, groups=48, bias=False), 48), activation)
    if gated:
        squeezed = net.op("Relu", conv(net, net.op("GlobalAveragePool", y), 48, 8, 1))
        y = net.op("Mul", y, net.op("Sigmoid", conv(net, squeezed, 8, 48, 1)))
    y = batch_norm(net, conv(net, y, 48, WIDTH, 1, bias=False), WIDTH)
    classes(net, net.op("Add", x, y))


@pattern(layer_scale=(False, True), form=("op", "nodes"))
def conv_next(net: Net, layer_scale: bool, form: str) -> None:
    """ConvNeXt's block: wide depthwise kernel, LayerNorm on the last axis, an MLP there."""
    x = stem(net)
    y = net.op("Transpose", conv(net, x, WIDTH, WIDTH, 7, groups=WIDTH), perm=[0, 2, 3, 1])
    y = forms.layer_norm(net, y, WIDTH, form)
    y = linear(net, forms.gelu(net, linear(net, y, WIDTH, 64)), 64, WIDTH)
    if layer_scale:
        y = net.op("Mul", y, net.const(0.01 + 0.1 * net.rng.random(WIDTH)))
    classes(net, net.op("Add", x, net.op("Transpose", y, perm=[0, 3, 1, 2])))


@pattern(groups=(2, 4), split=("split", "slice", "gather"), opset=(9, 18))
def channel_shuffle(net: Net, groups: int, split: str) -> None:
    """ShuffleNet: half of the channels pass, the rest is convolved, and all are shuffled."""
    x = stem(net)
    if split == "split":
        left, right = forms.split(net, x, [8, 8], 1)
    elif split == "slice":
        left, right = forms.cut(net, x, 1, 0, 8), forms.cut(net, x, 1, 8, WIDTH)
    else:
        left, right = (net.op("Gather", x, net.ints(*range(start, WIDTH, 2)), axis=1) for start in (0, 1))
    right = act(net, conv(net, conv(net, right, 8, 8, groups=8), 8, 8, 1), "relu")
    both = net.op("Concat", left, right, axis=1)
    shuffled = net.op("Transpose", forms.reshape(net, both, 1, groups, WIDTH // groups, 16, 16), perm=[0, 2, 1, 3, 4])
    classes(net, forms.reshape(net, shuffled, 1, WIDTH, 16, 16))
