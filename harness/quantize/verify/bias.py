"""Biases that do not fit into the 32 bits that a quantized node adds up in.

A bias is stored as int32, with the input's scale times the weight's as its scale. If that is too small, onnxruntime's tools clip the bias
(base_quantizer.py, quantize_bias_static_impl; microsoft/onnxruntime#21000), or, for int8 weights, enlarge the weight's scale so that
the bias just fits and the products that are added to it may not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from harness.quantize.step import listed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

MOST = 2**31 - 1
# Only a bias of half the range leaves products too little room, but for layers of 32,768 inputs and more.
LARGE = 2**30


class Place(NamedTuple):
    """Where an operator takes its weight, the weight's zero point and its bias; and the largest difference of its input to the zero point."""

    weight: int
    zero: int | None
    bias: int


QLINEAR = {"QLinearConv": Place(3, 5, 8), "QGemm": Place(3, 5, 6)}
FLOAT = {kind: Place(1, None, 2) for kind in ("Conv", "ConvTranspose", "Gemm")}
# The farthest that an input of 8 bits lies from its zero point; of 16 bits.
REACH, REACH_16 = 255, 65535


def notes(model: ModelProto, folder: Path) -> list[str]:
    """Tell which nodes' biases are clipped, or leave no room for the products that are added to them.

    Args:
        model: what was made; its tensors' values need not be there.
        folder: where the files with the tensors are that it does not hold itself.
    """
    cut: list[str] = []
    unsigned = False
    tight: list[str] = []
    for node, place, names in _biases(model):
        bias = names.array(place.bias, folder)
        if bias is None or bias.dtype != np.int32:
            continue
        sizes = np.abs(bias.astype(np.int64)).ravel()
        most = int(sizes.max(initial=0))
        name = (node.name or node.output[0]).removesuffix("_quant")
        if most >= MOST:
            cut.append(name)
            unsigned = unsigned or names.is_unsigned(place)
        elif most > LARGE:
            products = names.products(place, folder)
            sums = sizes + (products if products.size == sizes.size else products.max(initial=0))
            if (sums[sizes > LARGE] > MOST).any():
                tight.append(name)
    found = []
    if cut:
        found.append(
            f"the bias of {len(cut)} node{'s' if len(cut) > 1 else ''} does not fit into int32 and is clipped: {listed(cut)}; its scale, which "
            f"is the input's times the weight's, is too small; {ADVICE}{SIGNED if unsigned else ''}"
        )
    if tight:
        found.append(
            f"the bias of {len(tight)} node{'s' if len(tight) > 1 else ''} nearly fills int32, so that sums may overflow: {listed(tight)}; {ADVICE}"
        )
    return found


ADVICE = "leave the nodes in float with exclude_nodes"
# qdq_quantizer.py and onnx_quantizer.py (_adjust_weight_scale_for_int32_bias) enlarge the scale of symmetric int8 weights alone.
SIGNED = ", or take QInt8 weights, whose scale onnxruntime enlarges until the bias fits"


class _Inputs:
    """The constants that a node takes, through a DequantizeLinear where it takes floats."""

    def __init__(self, node: NodeProto, stored: dict[str, TensorProto], makers: dict[str, NodeProto]) -> None:
        self._node, self._stored, self._makers = node, stored, makers

    def tensor(self, position: int, of_unpacked: int = 0) -> TensorProto | None:
        """The constant at a position; of a DequantizeLinear there, its input of another position."""
        if len(self._node.input) <= position:
            return None
        name = self._node.input[position]
        maker = self._makers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            name = maker.input[of_unpacked] if len(maker.input) > of_unpacked else ""
        return self._stored.get(name)

    def array(self, position: int, folder: Path, of_unpacked: int = 0) -> NDArray[np.generic] | None:
        """The values of a constant, wherever they are stored."""
        stored = self.tensor(position, of_unpacked)
        if stored is None:
            return None
        if uses_external_data(stored):
            copied = TensorProto()
            copied.CopyFrom(stored)
            load_external_data_for_tensor(copied, str(folder))
            stored = copied
        found: NDArray[np.generic] = numpy_helper.to_array(stored)
        return found

    def is_unsigned(self, place: Place) -> bool:
        """Whether the weight is unsigned."""
        stored = self.tensor(place.weight)
        return stored is not None and stored.data_type in {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT4}

    def products(self, place: Place, folder: Path) -> NDArray[np.int64]:
        """For each channel, an upper bound of the sum of products that is added to its bias."""
        weight = self.array(place.weight, folder)
        if weight is None or weight.dtype.kind not in "iu":
            return np.zeros(1, np.int64)
        zero = self.array(place.weight, folder, 2) if place.zero is None else self.array(place.zero, folder)
        axis = self._axis()
        offset = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64).ravel()
        offset = offset.reshape([-1 if place_of == axis else 1 for place_of in range(weight.ndim)])
        reach = REACH if weight.dtype.itemsize == 1 else REACH_16
        others = tuple(place_of for place_of in range(weight.ndim) if place_of != axis)
        found: NDArray[np.int64] = np.abs(weight.astype(np.int64) - offset).sum(axis=others) * reach
        return found

    def _axis(self) -> int:
        """The axis of the weight's channels."""
        if self._node.op_type in {"Gemm", "QGemm"}:
            return int(not any(each.name == "transB" and each.i for each in self._node.attribute))
        return int(self._node.op_type == "ConvTranspose")


def _biases(model: ModelProto) -> Iterator[tuple[NodeProto, Place, _Inputs]]:
    """Find the nodes that take a bias as int32."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output if name}
    for node in model.graph.node:
        place = QLINEAR.get(node.op_type) or FLOAT.get(node.op_type)
        if place is None:
            continue
        inputs = _Inputs(node, stored, makers)
        bias = inputs.tensor(place.bias)
        if bias is not None and bias.data_type == TensorProto.INT32:
            yield node, place, inputs
