"""Convolutions of every shape, padding and pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from families import forms
from families.layers import conv
from families.net import SAMPLES
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net

LOWEST = -3.4028234663852886e38


def image(net: Net, width: int = 4, size: int = 15) -> str:
    """Add an input of an odd size."""
    return net.op("Relu", conv(net, net.input("x", [1, 3, size, size], "image"), 3, width))


@pattern(multiplier=(1, 2), bias=(False, True), size=(3,), spread=(False, True))
def depthwise(net: Net, multiplier: int, bias: bool, size: int, spread: bool) -> None:
    """A kernel for each channel; with ranges that differ by far, as MobileNet's do after folding the norms."""
    x = image(net, 8)
    gains = 2.0 ** net.rng.uniform(-3, 3, (8 * multiplier, 1, 1, 1)) if spread else 1.0
    weight = net.const(gains * net.rng.normal(size=(8 * multiplier, 1, size, size)) / size, name="dw.weight")
    x = net.op("Conv", x, weight, *([net.bias(8 * multiplier)] if bias else []), group=8, pads=[size // 2] * 4)
    net.output(conv(net, net.op("Relu", x), 8 * multiplier, 4, 1))


@pattern(groups=(1, 2, 4), bias=(False, True), extra=("none", "output-padding", "output-shape", "same"))
def transposed(net: Net, groups: int, bias: bool, extra: str) -> None:
    """Transposed convolution."""
    x = image(net, 8, 8)
    kinds: dict[str, dict[str, Any]] = {
        "none": {"pads": [1] * 4},
        "output-padding": {"pads": [1] * 4, "output_padding": [1, 1]},
        "output-shape": {"output_shape": [16, 16]},
        "same": {"auto_pad": "SAME_UPPER"},
    }
    weight = net.weight(8, 8 // groups, 3, 3, fan_in=8 * 9 // groups // 4, name="up.weight")
    x = net.op("ConvTranspose", x, weight, *([net.bias(8)] if bias else []), strides=[2, 2], group=groups, **kinds[extra])
    net.output(conv(net, net.op("Relu", x), 8, 3, 1))


@pattern(axes=(1, 3), groups=(1, 2), pool=("max", "average", "none"))
def other_axes(net: Net, axes: int, groups: int, pool: str) -> None:
    """Convolution over one or three axes."""
    x = net.op("Relu", conv(net, net.input("x", [1, 4, *[8] * axes]), 4, 8, axes=axes, groups=groups))
    if pool != "none":
        x = net.op({"max": "MaxPool", "average": "AveragePool"}[pool], x, kernel_shape=[2] * axes, strides=[2] * axes)
    net.output(conv(net, x, 8, 4, 1, axes=axes))


@pattern(padding=("SAME_UPPER", "SAME_LOWER", "VALID"), stride=(1, 2), kind=("Conv", "MaxPool", "AveragePool"))
def auto_pad(net: Net, padding: str, stride: int, kind: str) -> None:
    """Padding that TensorFlow's exporter leaves to the runtime."""
    x = image(net)
    if kind == "Conv":
        x = conv(net, x, 4, 4, auto_pad=padding, strides=[stride] * 2)
    else:
        x = net.op(kind, x, kernel_shape=[3, 3], strides=[stride] * 2, auto_pad=padding)
    net.output(conv(net, net.op("Relu", x), 4, 3, 1))


@pattern(kind=("max", "average", "lp"), ceil=(0, 1), count_pad=(0, 1), opset=(19,))
def pooling(net: Net, kind: str, ceil: int, count_pad: int) -> None:
    """Pools that round sizes up, and count padding or not."""
    x = net.op("Sub", image(net), net.const(0.5))
    more: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    if kind == "lp":
        x = net.op("LpPool", x, p=1 + count_pad, **more)
    elif kind == "max":
        x = net.op("MaxPool", x, ceil_mode=ceil, **({**more, "dilations": [2, 2]} if count_pad else more))
    else:
        x = net.op("AveragePool", x, ceil_mode=ceil, count_include_pad=count_pad, **more)
    net.output(conv(net, x, 4, 3, 1), x)


@pattern(mode=("constant", "reflect", "edge"), value=("0", "1", "lowest"), before=("conv", "pool"), opset=(10, 15))
def padded(net: Net, mode: str, value: str, before: str) -> None:
    """Pad as a node of its own; before a MaxPool with the lowest number there is."""
    x = conv(net, net.input("x", [1, 3, 12, 12], "image"), 3, 4)
    number = {"0": 0.0, "1": 1.0, "lowest": LOWEST if before == "pool" else -1.0}[value]
    x = forms.pad(net, x, [0, 0, 1, 1, 0, 0, 1, 1], mode, number)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2]) if before == "pool" else conv(net, x, 4, 4, pads=[0] * 4)
    net.output(conv(net, x, 4, 3, 1))


@pattern(block=("space-first", "depth-first", "shuffle", "reorganize"), opset=(11, 13))
def blocks(net: Net, block: str) -> None:
    """Space to depth and back: as operators, and by Reshape and Transpose."""
    x = net.op("Relu", conv(net, net.input("x", [1, 3, 16, 16], "image"), 3, 8))
    if block == "space-first":
        x = net.op("DepthToSpace", conv(net, net.op("SpaceToDepth", x, blocksize=2), 32, 16), blocksize=2, mode="DCR")
        net.output(conv(net, x, 4, 3, 1))
    elif block == "depth-first":
        net.output(conv(net, net.op("DepthToSpace", x, blocksize=2, mode="CRD"), 2, 3))
    elif block == "shuffle":
        six = net.op("Transpose", forms.reshape(net, x, 1, 2, 2, 2, 16, 16), perm=[0, 1, 4, 2, 5, 3])
        net.output(conv(net, forms.reshape(net, six, 1, 2, 32, 32), 2, 3))
    else:
        parts = []
        for row in (0, 1):
            rows = forms.cut(net, x, 2, row, 2**62, 2)
            parts += [forms.cut(net, rows, 3, column, 2**62, 2) for column in (0, 1)]
        net.output(conv(net, net.op("Concat", *parts, axis=1), 32, 8))


@pattern(computed=("bias", "weight", "both"))
def computed_kernel(net: Net, computed: str) -> None:
    """Kernels and biases that another branch computes: dynamic convolution, StyleGAN."""
    x = net.input("x", [1, 4, 8, 8], "image")
    style = net.input("style", [1, 6])
    weight, bias = net.weight(4, 4, 3, 3), net.bias(4)
    if computed != "bias":
        gains = net.op("MatMul", style, net.weight(6, 4, fan_in=6))
        weight = net.op("Mul", weight, forms.reshape(net, net.op("Add", gains, net.const(1.0)), 4, 1, 1, 1))
    if computed != "weight":
        bias = forms.reshape(net, net.op("MatMul", style, net.weight(6, 4, fan_in=6)), 4)
    net.output(net.op("Relu", net.op("Conv", x, weight, bias, pads=[1] * 4)))


@pattern(batch=(1, 4))
def open_batch(net: Net, batch: int) -> None:
    """A batch whose size is open."""
    x = net.input("x", ["batch", 3, 12, 12], net.rng.normal(size=(SAMPLES, batch, 3, 12, 12)))
    x = net.op("Relu", conv(net, x, 3, 8))
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    net.output(net.op("Gemm", x, net.weight(10, 8), net.bias(10), transB=1))
