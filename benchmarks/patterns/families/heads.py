"""Detection heads: one head on several pyramid levels, boxes beside scores, anchors, distributions over distances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from families import forms
from families.layers import act, conv
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net

CLASSES = 6


def levels(net: Net, gains: tuple[float, ...] = (1.0, 20.0, 0.05)) -> list[str]:
    """Make feature maps whose ranges differ."""
    image = net.input("images", [1, 3, 32, 32], "image")
    return [
        net.op(
            "Relu",
            net.op("Conv", image, net.weight(8, 3, 3, 3, gain=gain), net.bias(8, gain), strides=[2**place] * 2, pads=[1] * 4),
        )
        for place, gain in enumerate(gains, 1)
    ]


def rows(net: Net, tensor: str, channels: int) -> str:
    """[1, C, H, W] to [1, H·W, C]."""
    return forms.reshape(net, net.op("Transpose", tensor, perm=[0, 2, 3, 1]), 1, -1, channels)


@pattern(shared=("weight", "bias", "both"), depth=(1, 2))
def shared_head(net: Net, shared: str, depth: int) -> None:
    """One head on all levels, as RetinaNet and FCOS have."""
    weight, bias = net.weight(8, 8, 3, 3), net.bias(8)
    last, last_bias = net.weight(4, 8, 1, 1), net.const([3.0, -2, 1, 4])
    for level in levels(net):
        x = level
        for _ in range(depth - 1):
            x = net.op("Relu", net.op("Conv", x, weight, bias, pads=[1] * 4))
        own_weight = net.weight(4, 8, 1, 1) if shared == "bias" else last
        own_bias = net.bias(4) if shared == "weight" else last_bias
        net.output(net.op("Conv", x, own_weight, own_bias))


@pattern(scaled=("boxes", "exp"))
def scaled_head(net: Net, scaled: str) -> None:
    """FCOS: a shared head whose boxes have a learnt scale for each level."""
    weight, bias = net.weight(4, 8, 3, 3, gain=0.3), net.bias(4)
    found = []
    for level, scale in zip(levels(net, (1.0, 2.0, 1.5)), (1.0, 1.4, 0.8), strict=True):
        x = net.op("Mul", net.op("Conv", level, weight, bias, pads=[1] * 4), net.const(scale))
        found.append(rows(net, net.op("Exp", x) if scaled == "exp" else net.op("Relu", x), 4))
    net.output(net.op("Concat", *found, axis=1))


@pattern(size=(1, 640), order=("boxes-first", "scores-first"), opset=(11, 17))
def yolo_concat(net: Net, size: int, order: str) -> None:
    """YOLOv8's tail: boxes in pixels and scores of 0..1 in one output."""
    x = net.op("Relu", conv(net, net.input("images", [1, 3, 16, 16], "image"), 3, 16, strides=[2, 2], pads=[1] * 4))
    boxes = net.op("Sigmoid", conv(net, x, 16, 4, 1))
    if size > 1:
        boxes = net.op("Mul", boxes, net.const([float(size)]))
    scores = net.op("Sigmoid", conv(net, x, 16, CLASSES, 1))
    parts = [forms.reshape(net, boxes, 1, 4, -1), forms.reshape(net, scores, 1, CLASSES, -1)]
    net.output(net.op("Concat", *(parts if order == "boxes-first" else parts[::-1]), axis=1, into="output0"))


@pattern(version=(3, 5, 7))
def yolo_anchors(net: Net, version: int) -> None:
    """YOLOv3 to v7: centre, size by anchors, objectness and classes of each anchor, all in one output."""
    anchors, grid, width = 3, 8, 5 + CLASSES
    x = net.op("Relu", conv(net, net.input("images", [1, 3, 16, 16], "image"), 3, 16, strides=[2, 2], pads=[1] * 4))
    raw = forms.reshape(net, conv(net, x, 16, anchors * width, 1), 1, anchors, width, grid, grid)
    raw = net.op("Transpose", raw, perm=[0, 1, 3, 4, 2])
    places = np.stack(np.meshgrid(np.arange(grid), np.arange(grid)), -1).reshape(1, 1, grid, grid, 2)
    sizes = np.array([[10, 13], [33, 23], [62, 45]]).reshape(1, anchors, 1, 1, 2)
    if version == 3:
        centre, size, rest = forms.split(net, raw, [2, 2, 1 + CLASSES], 4)
        centre, rest = net.op("Sigmoid", centre), net.op("Sigmoid", rest)
        size = net.op("Mul", net.op("Exp", net.op("Mul", size, net.const(0.5))), net.const(sizes))
    else:
        centre, size, rest = forms.split(net, net.op("Sigmoid", raw), [2, 2, 1 + CLASSES], 4)
        doubled = net.op("Mul", size, net.const(2.0))
        squared = net.op("Pow", doubled, net.const(2.0)) if version == 5 else net.op("Mul", doubled, doubled)
        size = net.op("Mul", squared, net.const(sizes))
        centre = net.op("Sub", net.op("Mul", centre, net.const(2.0)), net.const(0.5))
    centre = net.op("Mul", net.op("Add", centre, net.const(places)), net.const(8.0))
    net.output(forms.reshape(net, net.op("Concat", centre, size, rest, axis=4), 1, -1, width))


@pattern(bins=(8, 16), decode=(False, True))
def distance_bins(net: Net, bins: int, decode: bool) -> None:
    """DFL: Softmax over bins and a fixed convolution give a distance; perhaps decoded to corners in pixels."""
    grid = 8
    x = net.op("Relu", conv(net, net.input("images", [1, 3, 16, 16], "image"), 3, 16, strides=[2, 2], pads=[1] * 4))
    raw = forms.reshape(net, conv(net, x, 16, 4 * bins, 1), 1, 4, bins, grid * grid)
    weights = net.op("Softmax", net.op("Transpose", raw, perm=[0, 2, 1, 3]), axis=1)
    fixed = net.const(np.arange(bins).reshape(1, bins, 1, 1), name="dfl.weight")
    distances = forms.reshape(net, net.op("Conv", weights, fixed), 1, 4, grid * grid)
    if not decode:
        net.output(distances)
        return
    before, after = forms.split(net, distances, [2, 2], 1)
    centres = net.const(np.stack(np.meshgrid(np.arange(grid), np.arange(grid)), 0).reshape(1, 2, -1) + 0.5)
    corners = [net.op("Sub", centres, before), net.op("Add", centres, after)]
    boxes = net.op("Mul", net.op("Concat", *corners, axis=1), net.const([8.0]))
    scores = net.op("Sigmoid", forms.reshape(net, conv(net, x, 16, CLASSES, 1), 1, CLASSES, -1))
    net.output(net.op("Concat", boxes, scores, axis=1))


@pattern(scores=("softmax", "sigmoid"), together=(False, True))
def ssd_tail(net: Net, scores: str, together: bool) -> None:
    """SSD: boxes by priors and variances, scores of all levels."""
    boxes, classes = [], []
    for level in levels(net, (1.0, 1.5, 0.8)):
        boxes.append(rows(net, conv(net, level, 8, 4), 4))
        classes.append(rows(net, conv(net, level, 8, CLASSES), CLASSES))
    box, score = net.op("Concat", *boxes, axis=1), net.op("Concat", *classes, axis=1)
    score = net.op("Softmax", score, axis=2) if scores == "softmax" else net.op("Sigmoid", score)
    count = 16 * 16 + 8 * 8 + 4 * 4
    priors = net.rng.random((1, count, 2))
    shift, size = forms.split(net, box, [2, 2], 2)
    centre = net.op("Add", net.op("Mul", shift, net.const(0.01)), net.const(priors))
    extent = net.op(
        "Mul", net.op("Exp", net.op("Mul", size, net.const(0.2))), net.const(0.1 + 0.2 * net.rng.random((1, count, 2)))
    )
    half = net.op("Mul", extent, net.const(0.5))
    corners = net.op("Concat", net.op("Sub", centre, half), net.op("Add", centre, half), axis=2)
    if together:
        net.output(net.op("Concat", corners, score, axis=2))
    else:
        net.output(corners, score)


@pattern(activation=("relu", "leaky", "silu"))
def centre_head(net: Net, activation: str) -> None:
    """CenterNet and CenterFace: heat map, sizes, offsets and landmarks as outputs of their own; the peaks by MaxPool."""
    x = act(net, conv(net, net.input("images", [1, 3, 16, 16], "image"), 3, 16), activation)
    heat = net.op("Sigmoid", conv(net, x, 16, 1, 1))
    peaks = net.op("MaxPool", heat, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    kept = net.op("Mul", heat, net.op("Cast", net.op("Equal", heat, peaks), to=1))
    net.output(kept if activation == "relu" else heat, net.op("Exp", conv(net, x, 16, 2, 1)), conv(net, x, 16, 10, 1))


@pattern(joint=("heatmap", "regression", "simcc"))
def keypoints(net: Net, joint: str) -> None:
    """Keypoints: soft-argmax of heat maps, direct regression in pixels, or two classifications of coordinates."""
    x = net.op("Relu", conv(net, net.input("images", [1, 3, 16, 16], "image"), 3, 16))
    if joint == "heatmap":
        maps = net.op("Softmax", forms.reshape(net, conv(net, x, 16, 5, 1), 1, 5, 256), axis=2)
        grid = np.stack(np.meshgrid(np.arange(16), np.arange(16)), -1).reshape(256, 2)
        net.output(net.op("MatMul", maps, net.const(grid)))
        return
    flat = net.op("Flatten", net.op("AveragePool", x, kernel_shape=[4, 4], strides=[4, 4]), axis=1)
    if joint == "regression":
        points = net.op("Gemm", flat, net.weight(256, 10, fan_in=256), net.const(112 + 60 * net.rng.random(10)))
        seen = net.op("Sigmoid", net.op("Gemm", flat, net.weight(256, 5, fan_in=256), net.bias(5)))
        net.output(net.op("Concat", points, seen, axis=1))
        return
    net.output(
        *(
            net.op("MatMul", forms.reshape(net, conv(net, x, 16, 5, 1), 1, 5, 256), net.weight(256, 32, fan_in=256))
            for _ in range(2)
        )
    )
