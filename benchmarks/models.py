"""Models for benchmarks, made here: float32, random weights, one input x and one output y, of about 50 µs, 1 ms and 20 ms on a fast core."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import NodeProto

# SLOWER is CNN with one more 1x1 convolution: about 3 % more multiplications; the others with more of them.
MLP, CNN, LARGE, SLOWER = "mlp", "cnn", "large-cnn", "cnn-slower"
SLOWER_5, SLOWER_10 = "cnn-slower-5", "cnn-slower-10"
# Models with a branch that no call takes; one in which 1 call in 10 takes it and then needs twice as long; one in which 7 of 10 do 6 % more.
MLP_BRANCH, TAIL, CNN_BRANCH, MIXED = "mlp-branch", "mlp-tail", "cnn-branch", "cnn-mixed"
# The share of the calls that take the branch.
SHARES = {MLP_BRANCH: 0.0, TAIL: 0.1, CNN_BRANCH: 0.0, MIXED: 0.7}
# Output channels of the convolutions that are added.
ADDED = {SLOWER: [64], SLOWER_5: [64, 64], SLOWER_10: [96, 80]}


class Network:
    """A chain of nodes with random float32 weights, from x to y."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = list(shape)
        self._chance = np.random.default_rng(0)
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}
        self._last = "x"

    def add(self, operator: str, *shapes: Sequence[int], pads: Sequence[int] | None = None) -> None:
        """Append a node whose further inputs are weights of these shapes."""
        name = f"{operator}{len(self._nodes)}"
        made = {f"{name}.{index}": self._random(shape) for index, shape in enumerate(shapes)}
        self._weights |= made
        self._nodes.append(helper.make_node(operator, [self._last, *made], [name], pads=pads))
        self._last = name

    def sometimes(self, share: float, count: int, operator: str, shape: Sequence[int]) -> None:
        """Append operators with weights of this shape that only this share of the calls does, by chance."""
        branch, last = [], self._last
        for index in range(count):
            key, made = f"sometimes{index}", f"sometimes{index}.y"
            self._weights[key] = self._random(shape)
            branch.append(helper.make_node(operator, [last, key], [made]))
            last = made
        self._weights["share"] = np.array([share], np.float32)
        self._nodes += [
            helper.make_node("RandomUniform", [], ["drawn"], dtype=TensorProto.FLOAT, shape=[1], low=0.0, high=1.0),
            helper.make_node("Less", ["drawn", "share"], ["taken"]),
        ]
        result = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
        other = helper.make_tensor_value_info("as it is", TensorProto.FLOAT, None)
        kept = helper.make_node("Identity", [self._last], ["as it is"])
        self._nodes.append(
            helper.make_node(
                "If", ["taken"], ["either"],
                then_branch=helper.make_graph(branch, "more", [], [result]), else_branch=helper.make_graph([kept], "less", [], [other]),
            )
        )  # fmt: skip
        self._last = "either"

    def save(self, folder: Path, name: str, made: Sequence[int]) -> None:
        """Write name.onnx, whose output has the shape ``made``, and name.bin, its input as raw float32."""
        self._nodes[-1].output[0] = "y"
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(made))
        weights = [numpy_helper.from_array(array, key) for key, array in self._weights.items()]
        graph = helper.make_graph(self._nodes, name, [given], [output], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        (folder / f"{name}.bin").write_bytes(self._random(self.shape).tobytes())

    def _random(self, shape: Sequence[int]) -> np.ndarray:
        """Numbers small enough to stay finite, and large enough to stay normal, through all layers."""
        scale = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 1.0
        return (scale * self._chance.standard_normal(shape)).astype(np.float32)


def make_models(folder: Path) -> None:
    """Make the three models, and slower ones."""
    rows, width, classes = 64, 128, 10
    for name in (MLP, MLP_BRANCH, TAIL):
        mlp = Network([rows, width])
        for _ in range(4):
            mlp.add("Gemm", [width, width], [width])
            mlp.add("Relu")
        if name in SHARES:
            mlp.sometimes(SHARES[name], 5, "Gemm", [width, width])
        mlp.add("Gemm", [width, classes], [classes])
        mlp.save(folder, name, [rows, classes])
    for name, channels, side, layers in (
        (CNN, 64, 32, 5),
        (LARGE, 128, 64, 5),
        *((name, 64, 32, 5) for name in (*ADDED, CNN_BRANCH, MIXED)),
    ):
        cnn = Network([1, 3, side, side])
        for layer in range(layers):
            cnn.add("Conv", [channels, channels if layer else 3, 3, 3], [channels], pads=[1, 1, 1, 1])
            cnn.add("Relu")
        if name in SHARES:
            cnn.sometimes(SHARES[name], 2, "Conv", [channels, channels, 1, 1])
        last = channels
        for added in ADDED.get(name, []):
            cnn.add("Conv", [added, last, 1, 1], [added])
            last = added
        cnn.add("GlobalAveragePool")
        cnn.add("Flatten")
        cnn.add("Gemm", [last, classes], [classes])
        cnn.save(folder, name, [1, classes])
