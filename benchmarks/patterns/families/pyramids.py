"""Feature pyramids, encoders with decoders, and what scales maps up and down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from families import forms
from families.layers import act, conv
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net


def backbone(net: Net, activation: str = "relu") -> list[str]:
    """Give maps of 16, 8 and 4 with 8, 16 and 24 channels."""
    found, x, width = [], net.input("images", [1, 3, 32, 32], "image"), 3
    for channels in (8, 16, 24):
        x, width = act(net, conv(net, x, width, channels, strides=[2, 2], pads=[1] * 4), activation), channels
        found.append(x)
    return found


@pattern(mode=("nearest", "linear"), join=("add", "concat"), opset=(9, 10, 11, 19))
def top_down(net: Net, mode: str, join: str) -> None:
    """FPN: coarse maps scaled up and joined with fine ones."""
    sides = [conv(net, level, width, 8, 1) for level, width in zip(backbone(net), (8, 16, 24), strict=True)]
    x = sides[-1]
    net.output(x)
    for side in sides[-2::-1]:
        x = forms.upsample(net, x, mode=mode)
        x = net.op("Add", side, x) if join == "add" else conv(net, net.op("Concat", side, x, axis=1), 16, 8, 1)
        net.output(conv(net, x, 8, 8))


@pattern(activation=("relu", "silu", "leaky", "hardswish"))
def two_ways(net: Net, activation: str) -> None:
    """PAN: down and up again, all joined by Concat."""
    fine, middle, coarse = (
        conv(net, level, width, 8, 1) for level, width in zip(backbone(net, activation), (8, 16, 24), strict=True)
    )
    middle = act(net, conv(net, net.op("Concat", forms.upsample(net, coarse), middle, axis=1), 16, 8), activation)
    fine = act(net, conv(net, net.op("Concat", forms.upsample(net, middle), fine, axis=1), 16, 8), activation)
    down = conv(net, fine, 8, 8, strides=[2, 2], pads=[1] * 4)
    middle = act(net, conv(net, net.op("Concat", down, middle, axis=1), 16, 8), activation)
    net.output(fine, middle)


@pattern(weighting=("fast", "softmax"))
def weighted_sum(net: Net, weighting: str) -> None:
    """BiFPN: maps joined with learnt weights that are normed inside the graph."""
    fine, middle, _ = (conv(net, level, width, 8, 1) for level, width in zip(backbone(net), (8, 16, 24), strict=True))
    raw = net.const(net.rng.random(2) + 0.2)
    if weighting == "fast":
        positive = net.op("Relu", raw)
        weights = net.op("Div", positive, net.op("Add", forms.reduce(net, "ReduceSum", positive, 0), net.const([1e-4])))
    else:
        weights = net.op("Softmax", raw, axis=0)
    parts = [
        net.op("Mul", x, forms.cut(net, weights, 0, place, place + 1))
        for place, x in enumerate((fine, forms.upsample(net, middle)))
    ]
    net.output(conv(net, act(net, net.op("Add", *parts), "silu"), 8, 8))


@pattern(up=("transposed", "nearest", "linear", "shuffle"), skip=("concat", "add"))
def u_net(net: Net, up: str, skip: str) -> None:
    """U-Net with masks for its output."""
    fine, middle, _ = backbone(net)
    x = conv(net, middle, 16, 32 if up == "shuffle" else 8)
    if up == "transposed":
        x = net.op("ConvTranspose", x, net.weight(8, 8, 2, 2, fan_in=8), net.bias(8), strides=[2, 2])
    elif up == "shuffle":
        x = net.op("DepthToSpace", x, blocksize=2, mode="CRD")
    else:
        x = forms.upsample(net, x, mode=up, coordinates="half_pixel")
    x = net.op("Concat", x, fine, axis=1) if skip == "concat" else net.op("Add", x, fine)
    net.output(net.op("Sigmoid", conv(net, act(net, conv(net, x, 16 if skip == "concat" else 8, 8), "relu"), 8, 1, 1)))


@pattern(mode=("nearest", "linear", "cubic"), coordinates=("half_pixel", "align_corners", "pytorch_half_pixel", "asymmetric"))
def scaled_map(net: Net, mode: str, coordinates: str) -> None:
    """Resize with each way to find coordinates, between convolutions."""
    x = forms.upsample(net, conv(net, net.input("x", [1, 3, 12, 12], "image"), 3, 8), 1.5, mode, coordinates)
    net.output(conv(net, net.op("Relu", x), 8, 4, 1))


@pattern(opset=(11, 13, 18))
def resized_to_input(net: Net) -> None:
    """Segmentation: logits scaled to the size of the input, which is computed from its shape."""
    image = net.input("images", [1, 3, "height", "width"], net.rng.normal(size=(16, 1, 3, 24, 24)))
    x = conv(net, act(net, conv(net, image, 3, 8, strides=[2, 2], pads=[1] * 4), "relu"), 8, 5, 1)
    size = forms.cut(net, net.op("Shape", image), 0, 2, 4)
    batch = forms.cut(net, net.op("Shape", x), 0, 0, 2)
    roi = net.const([]) if net.opset < 13 else ""
    empty = net.const([]) if net.opset < 13 else ""
    full = net.op("Concat", batch, size, axis=0)
    net.output(net.op("Resize", x, roi, empty, full, mode="linear", coordinate_transformation_mode="half_pixel"))


@pattern(rates=((1, 2), (2, 4)))
def atrous_pyramid(net: Net, rates: tuple[int, ...]) -> None:
    """ASPP: dilated convolutions and the image's mean, joined."""
    x = backbone(net)[1]
    parts = [act(net, conv(net, x, 16, 8, dilations=[rate, rate]), "relu") for rate in rates]
    mean = net.op("Relu", conv(net, net.op("GlobalAveragePool", x), 16, 8, 1))
    parts.append(net.op("Expand", mean, net.ints(1, 8, 8, 8)))
    net.output(conv(net, net.op("Concat", *parts, axis=1), 24, 5, 1))


@pattern(kernels=((5, 9, 13), (5, 5, 5)))
def pooled_pyramid(net: Net, kernels: tuple[int, ...]) -> None:
    """SPP and SPPF: MaxPools of growing reach, joined."""
    x = conv(net, backbone(net, "silu")[1], 16, 8, 1)
    parts, y = [x], x
    for kernel in kernels:
        source = y if kernels[0] == kernels[1] else x
        y = net.op("MaxPool", source, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, strides=[1, 1])
        parts.append(y)
    net.output(conv(net, net.op("Concat", *parts, axis=1), 32, 8, 1))
