"""Biases that do not fit into int32, in Conv, ConvTranspose and Gemm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.steps.float_biases import overflows
from tests.models import make_model
from tests.quantize.steps.conftest import Bench
from tests.quantize.steps.test_shared_constants import normal

if TYPE_CHECKING:
    from onnx import ModelProto

KINDS = {
    "U8U8": 'activation = "QUInt8"\nweight = "QUInt8"\n',
    "U8S8": 'activation = "QUInt8"\nweight = "QInt8"\n',
    "S8S8-pc": 'activation = "QInt8"\nweight = "QInt8"\nper_channel = true\n',
    "U8U8-pc": 'activation = "QUInt8"\nweight = "QUInt8"\nper_channel = true\n',
}
ALL = "[variants]\nmethods = []\n" + "".join(
    f'[[variant]]\nname = "{form}-{name}"\nmethod = "static"\nformat = "{form}"\n{kinds}'
    for form in ("QDQ", "QOperator")
    for name, kinds in KINDS.items()
)
node = helper.make_node


def network(kind: str, size: float, *, channels: int = 4, bias: Any = (3.0, -2.0, 1.0, 0.5), **said: Any) -> ModelProto:
    """A layer whose weights are of a size, and another one behind it."""
    weights: dict[str, Any] = {"b": np.array(bias, np.float32), "v": normal(1, 4, 4) / 2}
    if kind == "Gemm":
        shape = (channels, 4) if not said.get("transB") else (4, channels)
        weights["w"] = np.float32(size) * normal(0, *shape)
        nodes = [node("Gemm", ["x", "w", "b"], ["a"], "tiny", **said), node("MatMul", ["a", "v"], ["y"], "last")]
        return make_model(nodes, {"x": [1, channels]}, {"y": [1, 4]}, weights)
    weights["w"] = np.float32(size) * normal(0, *((4, channels, 3, 3) if kind == "Conv" else (channels, 4, 3, 3)))
    weights["v"] = normal(1, 4, 4, 1, 1) / 2
    nodes = [node(kind, ["x", "w", "b"], ["a"], "tiny", **said), node("Conv", ["a", "v"], ["y"], "last")]
    return make_model(nodes, {"x": [1, channels, 8, 8]}, {"y": list("abcd")}, weights)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm", "Gemm transposed"])
@pytest.mark.parametrize("size", [1e-9, 3e-8, 1e-7, 1e-6, 0.3])
def test_each_variant_comes_near_fp32(bench: Bench, kind: str, size: float) -> None:
    said = {"transB": 1} if kind.endswith("transposed") else {}
    model = network(kind.split(maxsplit=1)[0], size, **said)
    rank = len(model.graph.input[0].type.tensor_type.shape.dim)
    bench.save(model, x=normal(2, 16, *((4,) if rank == 2 else (4, 8, 8))))
    variants = bench.build(ALL)
    assert {each.state for each in variants.values()} == {"made"}, variants
    found = bench.fidelity(variants)
    assert min(found.values()) > 28, found
    for variant in variants.values():
        notes = [note for note in variant.notes if "bias" in note]
        assert not any("is clipped" in note or "may overflow" in note for note in notes), notes
        if size == 1e-9 and "U8U8" in variant.name and not (kind == "ConvTranspose" and "QOperator" in variant.name):
            assert any("float-large-biases" in note and "'tiny'" in note for note in notes), (variant.name, notes)
        if size == 0.3:
            assert not notes


def test_one_channel_of_many(bench: Bench) -> None:
    """Per channel a channel that is switched off has a tiny scale; int8 weights get a larger one, and stay integers."""
    model = network("Conv", 0.3)
    held = next(each for each in model.graph.initializer if each.name == "w")
    weight = onnx.numpy_helper.to_array(held).copy()
    weight[1] *= np.float32(1e-12)
    held.CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
    bench.save(model, x=normal(2, 16, 4, 8, 8))
    variants = bench.build(ALL)
    found = bench.fidelity(variants)
    assert min(found.values()) > 28, found
    for name in ("QDQ-S8S8-pc", "QOperator-S8S8-pc"):
        assert not any("float-large-biases" in note for note in variants[name].notes)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm"])
def test_a_node_that_is_excluded(bench: Bench, kind: str) -> None:
    """onnxruntime makes one of integers of it when it loads the model, because its neighbours are quantized."""
    model = network(kind, 1e-7)
    shape = (4, 4) if kind == "Gemm" else (4, 4, 1, 1)
    model.graph.node.insert(0, node("MatMul" if kind == "Gemm" else "Conv", ["before", "u"], ["x"], "first"))
    model.graph.input[0].name = "before"
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(8, *shape), "u"))
    bench.save(model, before=normal(2, 16, *((4,) if kind == "Gemm" else (4, 8, 8))))
    found = bench.fidelity(bench.build(ALL.replace("method =", 'exclude_nodes = ["tiny"]\nmethod =')))
    assert min(found.values()) > 28, found


def test_room_for_the_products() -> None:
    unit = np.array(1.0)
    row = np.array([[100] * 10, [1] * 10])
    most = 2**31 - 1
    assert overflows(np.array([most + 1, 0]), unit, None, 0)
    assert overflows(np.array([0, -most - 2]), unit, None, 0)
    assert not overflows(np.array([most, 0]), unit, None, 0)
    assert overflows(np.array([most, 0]), unit, row, 0)
    assert overflows(np.array([most - 255 * 1000 + 1, 0]), unit, row, 0)
    assert not overflows(np.array([most - 255 * 1000, 0]), unit, row, 0)
    assert not overflows(np.array([0, most - 255 * 10]), unit, row, 0)
    assert overflows(np.array([1.0, 1e-4]), np.array([1.0, 1e-14]), None, 0)


def test_without_the_step(bench: Bench) -> None:
    bench.save(network("Conv", 1e-9), x=normal(2, 16, 4, 8, 8))
    variants = bench.build(ALL.replace("method =", 'skip_steps = ["float-large-biases"]\nmethod ='))
    assert any("is clipped: 'tiny'" in note for note in variants["QDQ-U8U8"].notes)
    assert bench.fidelity(variants)["QDQ-U8U8"] < 20
