"""What is done before and after the network inside the graph: pixels, scores, boxes, choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from families import forms
from families.layers import conv, linear, pooled
from families.net import SAMPLES
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net


def classes(net: Net, x: str, count: int = 10, gain: float = 3.0) -> str:
    """Logits of an image."""
    return linear(net, pooled(net, net.op("Relu", conv(net, x, 3, 16))), 16, count, bias=False, gain=gain)


@pattern(layout=("nchw", "nhwc"), kind=("uint8", "float"), norm=("div", "mean-std", "scale-shift"), opset=(16,))
def pixels(net: Net, layout: str, kind: str, norm: str) -> None:
    """Pixels of 0..255 made to numbers inside the graph."""
    shape = [1, 3, 12, 12] if layout == "nchw" else [1, 12, 12, 3]
    x = net.input("pixels", shape, "pixels", TensorProto.UINT8 if kind == "uint8" else TensorProto.FLOAT)
    x = net.op("Cast", x, to=TensorProto.FLOAT) if kind == "uint8" else x
    x = net.op("Transpose", x, perm=[0, 3, 1, 2]) if layout == "nhwc" else x
    per_channel = (1, 3, 1, 1)
    if norm == "div":
        x = net.op("Div", x, net.const(255.0))
    elif norm == "mean-std":
        x = net.op("Sub", x, net.const(np.reshape([123.7, 116.3, 103.5], per_channel)))
        x = net.op("Div", x, net.const(np.reshape([58.4, 57.1, 57.4], per_channel)))
    else:
        x = net.op("Add", net.op("Mul", x, net.const(2 / 255)), net.const(-1.0))
    net.output(classes(net, x))


@pattern(end=("softmax", "log-softmax", "log-of-softmax", "sigmoid", "arg-max", "temperature", "both"), opset=(11, 13))
def scores(net: Net, end: str) -> None:
    """What a classifier ends in."""
    x = classes(net, net.input("x", [1, 3, 12, 12], "image"))
    if end == "arg-max":
        net.output(net.op("ArgMax", x, axis=1, keepdims=0), kind=TensorProto.INT64)
    elif end == "log-of-softmax":
        net.output(net.op("Log", forms.clip(net, net.op("Softmax", x, axis=1), 1e-7, 1.0)))
    elif end == "both":
        net.output(x, net.op("Softmax", x, axis=1))
    elif end == "temperature":
        net.output(net.op("Softmax", net.op("Mul", x, net.const(20.0)), axis=1))
    elif end == "sigmoid":
        net.output(net.op("Sigmoid", x))
    else:
        net.output(net.op({"softmax": "Softmax", "log-softmax": "LogSoftmax"}[end], x, axis=1))


@pattern(floor=(1e-7, 1e-3), where=("clip", "max", "add"))
def logarithm(net: Net, floor: float, where: str) -> None:
    """The logarithm of small probabilities, kept from 0."""
    x = net.op("Softmax", classes(net, net.input("x", [1, 3, 12, 12], "image"), gain=8), axis=1)
    if where == "clip":
        x = forms.clip(net, x, floor, 1.0)
    else:
        x = net.op("Max" if where == "max" else "Add", x, net.const([floor]))
    net.output(net.op("Log", x))


@pattern(constant=True, limit=(3, 20), threshold=(0.0, 0.5), gathered=(False, True))
def suppression(net: Net, limit: int, threshold: float, gathered: bool) -> None:
    """NonMaxSuppression; with a threshold the number of boxes varies."""
    x = net.op("Relu", conv(net, net.input("x", [1, 3, 8, 8], "image"), 3, 8, strides=[2, 2], pads=[1] * 4))
    centre = net.op(
        "Add", net.op("Sigmoid", conv(net, x, 8, 2, 1)), net.const(np.stack(np.meshgrid(np.arange(4), np.arange(4)), 0))
    )
    size = net.op("Exp", net.op("Mul", conv(net, x, 8, 2, 1), net.const(0.3)))
    boxes = net.op("Concat", net.op("Sub", centre, size), net.op("Add", centre, size), axis=1)
    boxes = net.op("Transpose", forms.reshape(net, boxes, 1, 4, 16), perm=[0, 2, 1])
    likely = forms.reshape(net, net.op("Sigmoid", conv(net, x, 8, 2, 1, bias=False)), 1, 2, 16)
    more = [net.const([limit], np.int64), net.const([0.5]), net.const([threshold])]
    chosen = net.op("NonMaxSuppression", boxes, likely, *more)
    if not gathered:
        net.output(chosen, kind=TensorProto.INT64)
        net.output(boxes, likely)
        return
    places = forms.squeeze(net, forms.cut(net, chosen, 1, 2, 3), 1)
    net.output(net.op("Gather", boxes, places, axis=1), boxes, likely)


@pattern(output=("values", "both", "gathered"), count=(3, 8), opset=(11, 13))
def best(net: Net, output: str, count: int) -> None:
    """TopK of the scores, perhaps with what belongs to them."""
    x = conv(net, net.input("x", [1, 3, 8, 8], "image"), 3, 8)
    likely = forms.reshape(net, net.op("Sigmoid", conv(net, x, 8, 1, 1)), 1, 64)
    values, places = forms.top_k(net, likely, count, 1)
    if output == "gathered":
        boxes = forms.reshape(net, net.op("Transpose", conv(net, x, 8, 4, 1), perm=[0, 2, 3, 1]), 64, 4)
        net.output(net.op("Gather", boxes, forms.squeeze(net, places, 0), axis=0), boxes, likely)
    else:
        net.output(values)
        if output == "both":
            net.output(places, kind=TensorProto.INT64)


@pattern(resized=("nearest", "linear"), norm=(False, True))
def thumbnails(net: Net, resized: str, norm: bool) -> None:
    """An image of 0..255 resized inside the graph before the network."""
    x = net.op("Cast", net.input("image", [1, 3, 20, 20], "pixels", TensorProto.UINT8), to=TensorProto.FLOAT)
    x = forms.upsample(net, x, 0.6, resized, "half_pixel")
    if norm:
        x = net.op("Div", net.op("Sub", x, net.const(127.5)), net.const(127.5))
    else:
        x = net.op("Mul", x, net.const(1 / 255))
    net.output(classes(net, x))


@pattern(way=("concat", "add", "film", "dot"))
def two_inputs(net: Net, way: str) -> None:
    """An image and numbers of another range joined: tabular features, conditions, two towers."""
    x = pooled(net, net.op("Relu", conv(net, net.input("image", [1, 3, 12, 12], "image"), 3, 8)))
    table = net.input("table", [1, 8], net.rng.normal(size=(SAMPLES, 1, 8)) * np.array([1, 1, 10, 100, 1, 1000, 0.1, 1]))
    if way == "concat":
        x = net.op("Concat", x, table, axis=1)
        x = linear(net, x, 16, 8)
    elif way == "add":
        x = net.op("Add", x, linear(net, table, 8, 8, gain=0.01))
    elif way == "film":
        gains, shift = forms.split(net, linear(net, table, 8, 16, gain=0.01), [8, 8], 1)
        x = net.op("Add", net.op("Mul", x, gains), shift)
    else:
        towers = (x, linear(net, table, 8, 8, gain=0.01))
        norms = [net.op("Div", each, forms.reduce(net, "ReduceL2", each, 1)) for each in towers]
        x = net.op("Concat", norms[0], net.op("Mul", *norms), axis=1)
    net.output(x)
