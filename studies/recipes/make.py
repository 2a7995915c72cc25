"""Makes the two models that every recipe is tried on, and their data: usual shapes, random weights, fixed seeds; written beside this file.

    python studies/recipes/make.py [FOLDER]

Outputs mean nothing; speed does not depend on that, and fidelity is told by SQNR against fp32.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "published_claims")]

from make import IR_VERSION, Network  # noqa: E402

CALIBRATION, EVALUATION = 32, 8  # samples
SIDE, CLASSES = 224, 1000
VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS = 8192, 128, 384, 12, 6


class Model(Network):
    """A network that is saved with data for calibration and for evaluation."""

    def save_with(self, folder: Path, name: str, last: str, given: object, data: dict[str, np.ndarray]) -> None:
        """Write NAME.onnx, NAME-calibration.npz and NAME-evaluation.npz."""
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        self.nodes.append(helper.make_node("Identity", [last], ["y"], "output"))
        tensors = [numpy_helper.from_array(array, key) for key, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, name, [given], [output], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION)
        model = shape_inference.infer_shapes(model)
        checker.check_model(model)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        for purpose, array in data.items():
            np.savez(folder / f"{name}-{purpose}.npz", x=array)


def mobilenet(folder: Path) -> None:
    """MobileNetV2 1.0 (Sandler et al. 2018, table 2) on 224 x 224 pixels, batch normalization as trained, 1000 classes."""
    net = Model([1, 3, SIDE, SIDE], 2)
    low, high = net.constant(np.array(0, np.float32)), net.constant(np.array(6, np.float32))

    def block(x: str, channels: int, out: int, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
        weight = net.random([out, channels // group, kernel, kernel], channels // group * kernel * kernel)
        x = net.add("Conv", [x, weight], pads=[kernel // 2] * 4, strides=[stride] * 2, kernel_shape=[kernel] * 2, group=group)
        return net.norm(x, out)

    def relu6(x: str) -> str:
        return net.add("Clip", [x, low, high])

    x, channels = relu6(block("x", 3, 32, 3, 2)), 32
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
            inner = relu6(block(x, channels, wide)) if expand > 1 else x
            inner = relu6(block(inner, wide, wide, 3, stride, group=wide))
            inner = block(inner, wide, out)
            x, channels = net.add("Add", [x, inner]) if (stride, channels) == (1, out) else inner, out
    x = net.add("Flatten", [net.add("GlobalAveragePool", [relu6(block(x, channels, 1280))])])
    x = net.add("Gemm", [x, net.random([1280, CLASSES], 1280), net.constant(np.zeros(CLASSES, np.float32))])
    chance = np.random.default_rng(1)
    data = {
        purpose: chance.standard_normal([count, *net.shape[1:]]).astype(np.float32)
        for purpose, count in (("calibration", CALIBRATION), ("evaluation", EVALUATION))
    }
    net.save_with(folder, "mobilenet", x, helper.make_tensor_value_info("x", TensorProto.FLOAT, net.shape), data)


def transformer(folder: Path) -> None:
    """An encoder as BERT's (Devlin et al. 2018), 6 layers of width 384 with 12 heads over 128 tokens, its activation GELU by Erf."""
    # With an open batch: where all sizes are known, the preparation makes a Gemm of each MatMul and Add.
    net = Model(["batch", LENGTH], 4)

    def norm(value: str) -> str:
        scale, shift = net.constant(np.ones(WIDTH, np.float32)), net.constant(np.zeros(WIDTH, np.float32))
        return net.add("LayerNormalization", [value, scale, shift], axis=-1)

    def scalar(value: float) -> str:
        return net.constant(np.array(value, np.float32))

    def gelu(value: str) -> str:
        spread = net.add("Add", [net.add("Erf", [net.add("Div", [value, scalar(math.sqrt(2))])]), scalar(1)])
        return net.add("Mul", [net.add("Mul", [value, spread]), scalar(0.5)])

    split = net.constant(np.array([0, LENGTH, HEADS, WIDTH // HEADS], np.int64))
    joined = net.constant(np.array([0, LENGTH, WIDTH], np.int64))
    words = net.add("Gather", [net.random([VOCABULARY, WIDTH], 2), "x"])
    x = norm(net.add("Add", [words, net.random([1, LENGTH, WIDTH], 200)]))
    for _ in range(LAYERS):
        parts = [net.add("Reshape", [net.dense(x, WIDTH, WIDTH), split]) for _ in range(3)]
        query, value = (net.add("Transpose", [part], perm=[0, 2, 1, 3]) for part in (parts[0], parts[2]))
        key = net.add("Transpose", [parts[1]], perm=[0, 2, 3, 1])
        scores = net.add("Div", [net.add("MatMul", [query, key]), scalar(math.sqrt(WIDTH // HEADS))])
        mixed = net.add("MatMul", [net.add("Softmax", [scores], axis=-1), value])
        mixed = net.add("Reshape", [net.add("Transpose", [mixed], perm=[0, 2, 1, 3]), joined])
        x = norm(net.add("Add", [x, net.dense(mixed, WIDTH, WIDTH)]))
        x = norm(net.add("Add", [x, net.dense(gelu(net.dense(x, WIDTH, 4 * WIDTH)), 4 * WIDTH, WIDTH)]))
    chance = np.random.default_rng(1)
    data = {
        purpose: chance.integers(0, VOCABULARY, [count, LENGTH])
        for purpose, count in (("calibration", CALIBRATION), ("evaluation", EVALUATION))
    }
    net.save_with(folder, "transformer", x, helper.make_tensor_value_info("x", TensorProto.INT64, net.shape), data)


def main() -> None:
    """Make both."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for make in (mobilenet, transformer):
        make(folder)
        print(folder / f"{make.__name__}.onnx")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
