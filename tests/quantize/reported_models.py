"""Small models with the structure of those in public bug reports, in which quantizers lose something without a word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

SAMPLES = 4
IR = {10: 5, 17: 8, 21: 10}


@dataclass
class Draft:
    """A graph that is written node by node."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    sparse: list[onnx.SparseTensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    data: dict[str, NDArray[Any]] = field(default_factory=dict)
    opset: int = 17

    def input(self, *shape: int | str, kind: int = TensorProto.FLOAT, name: str = "x") -> None:
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        sizes = [SAMPLES, *(3 if isinstance(size, str) else size for size in shape)]
        self.data[name] = self.rng.normal(size=sizes).astype(helper.tensor_dtype_to_np_dtype(kind))

    def output(self, name: str, rank: int, kind: int = TensorProto.FLOAT) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, [f"{name}{axis}" for axis in range(rank)]))

    def const(self, name: str, values: ArrayLike, dtype: Any = np.float32) -> None:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))

    def random(self, name: str, *shape: int, dtype: Any = np.float32) -> None:
        self.const(name, self.rng.normal(size=shape) / max(1, np.prod(shape[1:]) ** 0.5), dtype)

    def node(self, kind: str, inputs: str, output: str, **attributes: Any) -> None:
        """Inputs are separated by spaces; ``-`` is one that is left out."""
        names = ["" if name == "-" else name for name in inputs.split()]
        self.nodes.append(helper.make_node(kind, names, [output], name=f"{kind}_{output}", **attributes))

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write ``model.onnx`` and ``data.npz``."""
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.constants, sparse_initializer=self.sparse)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR[self.opset])
        onnx.save(model, folder / "model.onnx")
        np.savez(folder / "data.npz", allow_pickle=False, **self.data)
        return folder / "model.onnx", folder / "data.npz"


def one_head_on_levels(draft: Draft) -> None:
    draft.input(1, 3, 8, 8)
    draft.random("head", 4, 8, 3, 3)
    draft.const("bias", [3, -2, 1, 4])
    for level, gain in enumerate((1.0, 20.0, 0.05)):
        draft.const(f"w{level}", gain * draft.rng.normal(size=(8, 3, 3, 3)) / 5)
        draft.node("Conv", f"x w{level}", f"c{level}", pads=[1] * 4)
        draft.node("Relu", f"c{level}", f"r{level}")
        draft.node("Conv", f"r{level} head bias", f"p{level}", pads=[1] * 4)
        draft.output(f"p{level}", 4)


def pads_share_a_value(draft: Draft) -> None:
    draft.input(1, 3, 8, 8)
    draft.random("w0", 8, 3, 3, 3)
    draft.random("w1", 8, 8, 3, 3)
    draft.const("pads", [0, 0, 1, 1] * 2, np.int64)
    draft.const("value", -1.5)
    draft.node("Conv", "x w0", "a")
    draft.node("Pad", "a pads value", "ap")
    draft.node("Conv", "ap w1", "b")
    draft.node("Pad", "b pads value", "y")
    draft.output("y", 4)


def half_precision(draft: Draft) -> None:
    draft.input(1, 3, 8, 8, kind=TensorProto.FLOAT16)
    draft.random("w0", 8, 3, 3, 3, dtype=np.float16)
    draft.random("b0", 8, dtype=np.float16)
    draft.node("Conv", "x w0 b0", "a", pads=[1] * 4)
    draft.node("Relu", "a", "y")
    draft.output("y", 4, TensorProto.FLOAT16)


def gemm_with_factors(draft: Draft) -> None:
    draft.input(6, 8)
    draft.random("w", 8, 5)
    draft.random("c", 5)
    draft.node("Gemm", "x w c", "y", beta=3.0, alpha=0.5)
    draft.output("y", 2)


def output_before_relu(draft: Draft) -> None:
    draft.input(1, 3, 8, 8)
    draft.random("w0", 4, 3, 3, 3)
    draft.random("w1", 2, 4, 1, 1)
    draft.node("Conv", "x w0", "a")
    draft.node("Relu", "a", "r")
    draft.node("Conv", "r w1", "y")
    draft.output("y", 4)
    draft.output("a", 4)


def random_operator(draft: Draft) -> None:
    draft.input(4, 16)
    draft.random("w0", 16, 16)
    draft.random("w1", 16, 8)
    draft.node("MatMul", "x w0", "a")
    draft.node("RandomNormalLike", "a", "n")
    draft.node("Add", "a n", "z")
    draft.node("MatMul", "z w1", "y")
    draft.output("y", 2)


def boxes_beside_scores(draft: Draft) -> None:
    draft.input(1, 3, 16, 16)
    draft.random("w0", 16, 3, 3, 3)
    draft.random("wb", 4, 16, 1, 1)
    draft.random("ws", 6, 16, 1, 1)
    draft.const("pixels", [640.0])
    draft.node("Conv", "x w0", "r", strides=[2, 2])
    for name in "bs":
        draft.node("Conv", f"r w{name}", f"{name}0")
        draft.node("Sigmoid", f"{name}0", f"{name}1")
    draft.node("Mul", "b1 pixels", "b2")
    draft.node("Concat", "b2 s1", "y", axis=1)
    draft.output("y", 4)


def decoder_with_past(draft: Draft) -> None:
    draft.input(1, "steps", 16)
    draft.input(1, "past", 16, name="past")
    draft.data["past"] = draft.data["past"][:, :, :0]
    draft.random("wk", 16, 16)
    draft.random("wo", 16, 9)
    draft.node("MatMul", "x wk", "k")
    draft.node("Concat", "past k", "present", axis=1)
    draft.node("MatMul", "present wo", "y")
    draft.output("y", 3)


def one_weight_two_axes(draft: Draft) -> None:
    draft.input(4, 16)
    draft.const("w", draft.rng.normal(size=(16, 16)) / 4 * np.geomspace(0.01, 10, 16)[:, None])
    draft.random("b", 16)
    draft.node("MatMul", "x w", "a")
    draft.node("Tanh", "a", "t")
    draft.node("Gemm", "t w b", "y", transB=1)
    draft.output("y", 2)


def one_weight_many_times(draft: Draft) -> None:
    draft.input(4, 32)
    draft.random("w", 32, 32)
    for step, name in enumerate(("x", "t0", "t1")):
        draft.node("MatMul", f"{name} w", f"m{step}")
        draft.node("Tanh", f"m{step}", f"t{step}")
    draft.output("t2", 2)


def grouped_transposed_convolution(draft: Draft) -> None:
    draft.input(1, 8, 8, 8)
    draft.random("w", 8, 2, 4, 4)
    draft.random("b", 8)
    draft.node("ConvTranspose", "x w b", "y", strides=[2, 2], pads=[1] * 4, group=4)
    draft.output("y", 4)


def weights_of_one_and_three_axes(draft: Draft) -> None:
    draft.input(3, 4, 16)
    draft.random("w", 3, 16, 16)
    draft.random("v", 16)
    draft.node("MatMul", "x w", "h")
    draft.node("MatMul", "h v", "y")
    draft.output("y", 2)


def body_takes_what_is_quantized(draft: Draft) -> None:
    draft.input(1, 3, 8, 8)
    draft.random("w0", 4, 3, 3, 3)
    draft.random("w9", 2, 4, 1, 1)
    draft.const("two", 2.0)
    draft.const("zero", 0.0)
    draft.node("Conv", "x w0", "a", pads=[1] * 4)
    draft.node("MaxPool", "a", "r", kernel_shape=[2, 2], strides=[2, 2])
    draft.node("ReduceSum", "x", "s", keepdims=0)
    draft.node("Greater", "s zero", "c")
    branches = [
        helper.make_graph([helper.make_node(kind, inputs, [kind], name=f"in_{kind}")], kind, [], [onnx.ValueInfoProto(name=kind)])
        for kind, inputs in (("Mul", ["r", "two"]), ("Neg", ["r"]))
    ]
    for branch in branches:
        branch.output[0].CopyFrom(helper.make_tensor_value_info(branch.output[0].name, TensorProto.FLOAT, None))
    draft.node("If", "c", "i", then_branch=branches[0], else_branch=branches[1])
    draft.node("Conv", "i w9", "y")
    draft.output("y", 4)


def resize_of_opset_10(draft: Draft) -> None:
    draft.opset = 10
    draft.input(1, 3, 8, 8)
    draft.random("w0", 6, 3, 3, 3)
    draft.const("scales", [1, 1, 2, 2])
    draft.node("Conv", "x w0", "a", pads=[1] * 4)
    draft.node("Resize", "a scales", "y", mode="linear")
    draft.output("y", 4)


def clip_without_zero(draft: Draft) -> None:
    draft.input(1, 3, 8, 8)
    draft.random("w0", 6, 3, 3, 3)
    draft.random("w1", 4, 6, 3, 3)
    draft.const("low", 0.4)
    draft.const("high", 1.5)
    draft.node("Conv", "x w0", "a")
    draft.node("Clip", "a low high", "c")
    draft.node("Conv", "c w1", "y")
    draft.output("y", 4)


def logarithm_of_small_numbers(draft: Draft) -> None:
    draft.input(4, 16)
    draft.const("w", draft.rng.normal(size=(16, 40)) * 1.5)
    draft.const("low", 1e-7)
    draft.const("high", 1.0)
    draft.node("MatMul", "x w", "m")
    draft.node("Softmax", "m", "p", axis=-1)
    draft.node("Clip", "p low high", "c")
    draft.node("Log", "c", "y")
    draft.output("y", 2)


def pad_beyond_the_range(draft: Draft) -> None:
    draft.input(1, 3, 16, 16)
    draft.random("w0", 6, 3, 3, 3)
    draft.random("w1", 4, 6, 3, 3)
    draft.const("pads", [0, 0, 1, 1] * 2, np.int64)
    draft.const("value", -3.4028235e38)
    draft.node("Conv", "x w0", "a")
    draft.node("Pad", "a pads value", "q")
    draft.node("MaxPool", "q", "m", kernel_shape=[3, 3], strides=[2, 2])
    draft.node("Conv", "m w1", "y")
    draft.output("y", 4)


def computed_bias(draft: Draft) -> None:
    draft.input(1, 3, 8, 8)
    draft.random("w0", 6, 3, 3, 3)
    draft.random("w1", 6, 6, 1, 1)
    draft.node("Conv", "x w0", "a")
    draft.node("ReduceMean", "a", "mean", axes=[0, 2, 3], keepdims=0)
    draft.node("Conv", "a w1 mean", "y")
    draft.output("y", 4)


def name_that_a_tool_gives(draft: Draft) -> None:
    draft.input(1, 3, 8, 8)
    draft.random("w", 6, 3, 3, 3)
    draft.const("w_scale", np.abs(draft.rng.normal(size=(6, 1, 1))) + 0.5)
    draft.node("Conv", "x w", "a")
    draft.node("Mul", "a w_scale", "y")
    draft.output("y", 4)


def classes_with_trailing_axes(draft: Draft) -> None:
    draft.input(1, 16)
    draft.random("w", 16, 10)
    draft.const("shape", [-1, 10, 1, 1], np.int64)
    draft.node("MatMul", "x w", "l")
    draft.node("Reshape", "l shape", "y")
    draft.output("y", 4)


def infinite_outputs(draft: Draft) -> None:
    draft.input(2, 16)
    draft.random("w", 16, 20)
    draft.const("suppressed", np.arange(20) % 5 == 0, np.bool_)
    draft.const("lowest", -np.inf)
    draft.node("MatMul", "x w", "l")
    draft.node("Where", "suppressed lowest l", "y")
    draft.output("y", 2)


def sparse_weight(draft: Draft) -> None:
    draft.input(2, 8)
    places = numpy_helper.from_array(np.array([1, 9, 20, 33]), "places")
    values = numpy_helper.from_array(np.array([1.5, -2, 3, 0.7], np.float32), "sparse")
    draft.sparse.append(helper.make_sparse_tensor(values, places, [8, 5]))
    draft.random("w", 5, 4)
    draft.node("MatMul", "x sparse", "m")
    draft.node("MatMul", "m w", "y")
    draft.output("y", 2)


def gemm_with_bias(draft: Draft) -> None:
    draft.opset = 21
    draft.input(4, 64)
    draft.random("w", 32, 64)
    draft.random("b", 32)
    draft.node("Gemm", "x w b", "y", transB=1)
    draft.output("y", 2)


def constants_beyond_float16(draft: Draft) -> None:
    draft.input(4, 16)
    draft.random("w", 16, 16)
    draft.random("v", 16, 8)
    draft.const("k", [1e6] * 16)
    draft.node("MatMul", "x w", "a")
    draft.node("Mul", "a k", "b")
    draft.node("MatMul", "b v", "y")
    draft.output("y", 2)


REPORTED: Sequence[Callable[[Draft], None]] = (
    one_head_on_levels,
    pads_share_a_value,
    half_precision,
    gemm_with_factors,
    output_before_relu,
    random_operator,
    boxes_beside_scores,
    decoder_with_past,
    one_weight_two_axes,
    one_weight_many_times,
    grouped_transposed_convolution,
    weights_of_one_and_three_axes,
    body_takes_what_is_quantized,
    resize_of_opset_10,
    clip_without_zero,
    logarithm_of_small_numbers,
    pad_beyond_the_range,
    computed_bias,
    name_that_a_tool_gives,
    classes_with_trailing_axes,
    infinite_outputs,
    sparse_weight,
    gemm_with_bias,
    constants_beyond_float16,
)
