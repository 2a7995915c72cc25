"""Makes the models and data of the published claims: shapes of the field, random weights, fixed seeds; written beside this file.

    python studies/published_claims/make.py [FOLDER]

Weights are drawn as for training (He), so that activations keep their range through all layers. Outputs mean nothing; speed does not
depend on that, and fidelity is told by SQNR against fp32. Where accuracy matters, the claims use the trained digits model.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

HERE = Path(__file__).resolve().parent
OPSET, IR_VERSION = 17, 8
CLASSES = 10


class Network:
    """A graph with one input x and one output y, built node by node; every method takes and gives tensor names."""

    def __init__(self, shape: list[int], seed: int, opset: int = OPSET) -> None:
        self.shape, self.opset = shape, opset
        self.chance = np.random.default_rng(seed)
        self.nodes: list[object] = []
        self.weights: dict[str, np.ndarray] = {}

    def constant(self, array: np.ndarray) -> str:
        """Keep an array as an initializer."""
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def random(self, shape: list[int], fan_in: int) -> str:
        """He initialization (He et al. 2015, arXiv:1502.01852)."""
        return self.constant((math.sqrt(2 / fan_in) * self.chance.standard_normal(shape)).astype(np.float32))

    def add(self, operator: str, inputs: list[str], outputs: int = 1, **attributes: object) -> str:
        """Append a node; gives the name of its first output."""
        name = f"{operator}_{len(self.nodes)}"
        names = [name, *(f"{name}.{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(operator, inputs, names, name, **attributes))
        return name

    def conv(self, x: str, channels: int, out: int, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        """A convolution with a bias that keeps the size, but for its stride."""
        weight = self.random([out, channels // group, kernel, kernel], channels // group * kernel * kernel)
        bias = self.constant(np.zeros(out, np.float32))
        pad = kernel // 2
        return self.add("Conv", [x, weight, bias], pads=[pad] * 4, strides=[stride] * 2, kernel_shape=[kernel] * 2, group=group)

    def norm(self, x: str, channels: int) -> str:
        """Batch normalization with statistics as after training."""
        scale, shift, mean = (self.chance.normal(at, 0.1, channels).astype(np.float32) for at in (1, 0, 0))
        variance = self.chance.uniform(0.5, 1.5, channels).astype(np.float32)
        return self.add("BatchNormalization", [x, *map(self.constant, (scale, shift, mean, variance))])

    def dense(self, x: str, channels: int, out: int) -> str:
        """MatMul and Add, as exporters write a layer on sequences."""
        product = self.add("MatMul", [x, self.random([channels, out], channels)])
        return self.add("Add", [product, self.constant(np.zeros(out, np.float32))])

    def classify(self, x: str, channels: int) -> str:
        """Pool globally and classify."""
        flat = self.add("Flatten", [self.add("GlobalAveragePool", [x])])
        return self.add("Gemm", [flat, self.random([channels, CLASSES], channels), self.constant(np.zeros(CLASSES, np.float32))])

    def save(self, folder: Path, name: str, last: str, samples: int = 16) -> None:
        """Write NAME.onnx, and NAME.npz with normal noise."""
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        self.nodes.append(helper.make_node("Identity", [last], ["y"], "output"))
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        tensors = [numpy_helper.from_array(array, key) for key, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, name, [given], [output], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION)
        model = shape_inference.infer_shapes(model)
        checker.check_model(model)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        data = np.random.default_rng(1).standard_normal([samples, *self.shape[1:]]).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=data)


def resnet(folder: Path) -> None:
    """ResNet-18's blocks (He et al. 2016) on 96 x 96 pixels; batch normalization folded, as exporters do."""
    net = Network([1, 3, 96, 96], 1)
    x = net.add("Relu", [net.conv("x", 3, 64, 7, 2)])
    x = net.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for out, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        inner = net.add("Relu", [net.conv(x, channels, out, 3, stride)])
        inner = net.conv(inner, out, out)
        short = x if (channels, stride) == (out, 1) else net.conv(x, channels, out, 1, stride)
        x, channels = net.add("Relu", [net.add("Add", [inner, short])]), out
    net.save(folder, "resnet", net.classify(x, channels))


def mobilenet(folder: Path, side: int = 96) -> None:
    """MobileNetV2's inverted residuals (Sandler et al. 2018, table 2), on so many pixels squared."""
    net = Network([1, 3, side, side], 2)
    low, high = net.constant(np.array(0, np.float32)), net.constant(np.array(6, np.float32))

    def relu6(x: str) -> str:
        return net.add("Clip", [x, low, high])

    x, channels = relu6(net.conv("x", 3, 32, 3, 2)), 32
    for expand, out, repeat, first in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for number in range(repeat):
            stride, wide = first if number == 0 else 1, channels * expand
            inner = relu6(net.conv(x, channels, wide, 1)) if expand > 1 else x
            inner = relu6(net.conv(inner, wide, wide, 3, stride, group=wide))
            inner = net.conv(inner, wide, out, 1)
            x, channels = net.add("Add", [x, inner]) if (stride, channels) == (1, out) else inner, out
    x = relu6(net.conv(x, channels, 1280, 1))
    net.save(folder, "mobilenet", net.classify(x, 1280))


def speaker(folder: Path) -> None:
    """A speaker-embedding CNN on 80 mel bands x 200 frames: Conv, Mul (channel attention), AveragePool, BatchNormalization, ReduceMean."""
    net = Network([1, 1, 80, 200], 3)
    x, channels = net.add("Relu", [net.conv("x", 1, 32)]), 32
    for out in (64, 96, 128):
        # Before the convolution: behind one, it would be folded into the weights.
        inner = net.add("Relu", [net.norm(net.add("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2]), channels)])
        inner = net.conv(inner, channels, out)
        gate = net.add("ReduceMean", [inner], axes=[2, 3], keepdims=1)
        gate = net.add("Relu", [net.conv(gate, out, out // 4, 1)])
        gate = net.add("Sigmoid", [net.conv(gate, out // 4, out, 1)])
        x, channels = net.add("Relu", [net.add("Mul", [inner, gate])]), out
    mean = net.add("ReduceMean", [net.norm(x, channels)], axes=[2, 3], keepdims=0)
    net.save(folder, "speaker", net.dense(mean, channels, 192))


def transformer(folder: Path, layers: int = 4, width: int = 256, heads: int = 4, length: int = 64) -> None:
    """An encoder (Vaswani et al. 2017) of 4 layers, width 256, over 64 positions; its input are embeddings."""
    net = Network([1, length, width], 4)
    x = "x"

    def norm(value: str) -> str:
        scale, shift = net.constant(np.ones(width, np.float32)), net.constant(np.zeros(width, np.float32))
        return net.add("LayerNormalization", [value, scale, shift], axis=-1)

    split = net.constant(np.array([1, length, heads, width // heads], np.int64))
    joined = net.constant(np.array([1, length, width], np.int64))
    scale = net.constant(np.array(1 / math.sqrt(width // heads), np.float32))
    for _ in range(layers):
        parts = [net.add("Reshape", [net.dense(x, width, width), split]) for _ in range(3)]
        query, value = (net.add("Transpose", [part], perm=[0, 2, 1, 3]) for part in (parts[0], parts[2]))
        key = net.add("Transpose", [parts[1]], perm=[0, 2, 3, 1])
        scores = net.add("Mul", [net.add("MatMul", [query, key]), scale])
        mixed = net.add("MatMul", [net.add("Softmax", [scores], axis=-1), value])
        mixed = net.add("Reshape", [net.add("Transpose", [mixed], perm=[0, 2, 1, 3]), joined])
        x = norm(net.add("Add", [x, net.dense(mixed, width, width)]))
        inner = net.add("Relu", [net.dense(x, width, 4 * width)])
        x = norm(net.add("Add", [x, net.dense(inner, 4 * width, width)]))
    net.save(folder, "transformer", x)


def lstm(folder: Path, width: int = 256, length: int = 100, features: int = 80) -> None:
    """Two LSTM layers of 256 units over 100 frames of 80 features."""
    net = Network([1, length, features], 5)
    x, size = net.add("Transpose", ["x"], perm=[1, 0, 2]), features
    axis = net.constant(np.array([1], np.int64))
    for _ in range(2):
        weights = [net.random([1, 4 * width, fan], 4 * fan) for fan in (size, width)]
        bias = net.constant(np.zeros([1, 8 * width], np.float32))
        x, size = net.add("Squeeze", [net.add("LSTM", [x, *weights, bias], hidden_size=width), axis]), width
    x = net.add("Transpose", [x], perm=[1, 0, 2])
    net.save(folder, "lstm", net.dense(x, width, 40))


def old(folder: Path) -> None:
    """A model that no pre-processing takes: opset 9's Upsample has no way into the present."""
    net = Network([1, 3, 48, 48], 6, opset=9)
    x = net.add("Relu", [net.conv("x", 3, 32, 3, 2)])
    x = net.add("Upsample", [x, net.constant(np.array([1, 1, 2, 2], np.float32))], mode="nearest")
    net.save(folder, "old", net.classify(net.add("Relu", [net.conv(x, 32, 32)]), 32))


def noise(folder: Path) -> None:
    """Uniform noise of a tenth of the digits' range, for a calibration that knows nothing of them."""
    np.savez(folder / "noise.npz", image=np.random.default_rng(7).uniform(0, 0.1, [16, 1, 64, 64]).astype(np.float32))


def main() -> None:
    """Make all of them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for make in (resnet, mobilenet, speaker, transformer, lstm, old, noise):
        make(folder)
        print(folder / make.__name__)  # noqa: T201 - a script


if __name__ == "__main__":
    main()
