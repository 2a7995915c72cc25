"""Masks, padding and infinities: what is beside them survives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.quantize.steps.models import model, node, samples, weights
from tests.quantize.steps.test_keep_clamps import CONSTANTS, HEAD, KINDS, STEM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from tests.quantize.steps.conftest import Bench

LEAST = float(np.finfo(np.float32).min)
KINDS_8 = KINDS.replace(', "QUInt16"', "").replace(', "QUInt8"]', "]")
KINDS_16 = KINDS.replace('"QInt8", "QUInt16"', '"QUInt16"').replace(', "QUInt8"]', "]")
SIZE = 12  # tokens


def attention(masking: Sequence[NodeProto], constants: dict[str, Any], *, floats: bool = False) -> ModelProto:
    """One head: scores ``s``, masked to ``m``, then Softmax."""
    nodes = [
        *(node("MatMul", f"x w{name}", name) for name in "qkv"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "s"),
        *masking,
        node("Softmax", "m", "p"),
        node("MatMul", "p v", "y"),
    ]
    stored = {f"w{name}": weights(16, 16, seed=index) * (4 if name == "v" else 2) for index, name in enumerate("qkv")}
    inputs = {"x": [1, SIZE, 16], "keep": [1, 1, SIZE]}
    kind = TensorProto.FLOAT if floats else TensorProto.BOOL
    return model(nodes, inputs, {"y": [1, SIZE, 16]}, {**stored, **constants}, types={"keep": kind})


def masks(*, seen: bool, kind: Any = bool) -> NDArray[Any]:
    """Which tokens count in each of the samples: the first ones, or all."""
    lengths = np.arange(8) % (SIZE - 2) + 3 if seen else np.full(8, SIZE)
    return (np.arange(SIZE)[None, None] < lengths[:, None, None]).astype(kind)


WAYS: dict[str, tuple[list[NodeProto], list[float]]] = {
    "where": ([node("Where", "keep s big", "m")], [LEAST, -np.inf, -1e9, -65504, -1e4]),
    "where the other way": ([node("Not", "keep", "hide"), node("Where", "hide big s", "m")], [LEAST, -1e4]),
    "where zero, then add": ([node("Where", "keep zero big", "b"), node("Add", "s b", "m")], [LEAST, -1e9, -1e4]),
    "add of a product": (
        [node("Cast", "keep", "f", to=1), node("Sub", "one f", "g"), node("Mul", "g big", "b"), node("Add", "s b", "m")],
        [LEAST, -1e9, -1e4],
    ),
    "sub of a product": (
        [node("Cast", "keep", "f", to=1), node("Sub", "one f", "g"), node("Mul", "g huge", "b"), node("Sub", "s b", "m")],
        [-1e9, -1e4],
    ),
    "add, then divide": (
        [node("Where", "keep zero big", "b"), node("Add", "s b", "d"), node("Div", "d two", "m")],
        [-1e9, -1e4],
    ),
    "expanded": ([node("Expand", "big shape", "e"), node("Where", "keep zero e", "b"), node("Add", "b s", "m")], [LEAST, -1e4]),
    "filled": (
        [node("ConstantOfShape", "shape", "e", value=None), node("Where", "keep s e", "m")],
        [LEAST],
    ),
}
CASES = [(way, big) for way, (_, values) in WAYS.items() for big in values]


def constants(big: float) -> dict[str, Any]:
    """All that the ways of masking take."""
    single = {"big": np.float32(big), "huge": np.float32(-big), "zero": np.float32(0), "one": np.float32(1), "two": np.float32(2)}
    return {**single, "shape": np.array([1, 1, SIZE])}


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize(("way", "big"), CASES)
def test_attention(bench: Bench, way: str, big: float, seen: bool) -> None:

    masking = [type(each).FromString(each.SerializeToString()) for each in WAYS[way][0]]
    for each in masking:
        if each.op_type == "ConstantOfShape":
            del each.attribute[:]
            each.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.array([big], np.float32))))
    made = attention(masking, constants(big))
    data = {"x": samples(8, SIZE, 16)}
    bench.save(made, **data, keep=masks(seen=seen))
    variants = bench.build(KINDS_16)
    assert {name: each.reason for name, each in variants.items() if each.path is None and each.state != "impossible"} == {}
    bench.save(made, **data, keep=masks(seen=True))
    found = bench.fidelity(variants)
    assert min(found.values()) > 15, found


def test_a_mask_that_is_an_input(bench: Bench) -> None:
    made = attention([node("Add", "s keep", "m")], {}, floats=True)
    bench.save(made, x=samples(8, SIZE, 16), keep=np.where(masks(seen=True), 0, LEAST).astype(np.float32))
    found = bench.fidelity(bench.build(KINDS_8))
    assert min(found.values()) > 15, found


def test_a_causal_mask_that_is_a_constant(bench: Bench) -> None:
    causal = np.triu(np.full((1, SIZE, SIZE), -1e4, np.float32), 1)
    made = attention([node("Add", "s causal", "t"), node("Where", "keep t big", "m")], {"causal": causal, **constants(-1e4)})
    bench.save(made, x=samples(8, SIZE, 16), keep=masks(seen=True))
    found = bench.fidelity(bench.build(KINDS_8))
    assert min(found.values()) > 15, found


PADDING = [
    *((value, then) for value in (-100, 9, -0.5) for then in ("MaxPool", "Identity", "Relu", "ReduceMax", "Transpose")),
    *((value, then) for value in (LEAST, -np.inf, -1e9) for then in ("MaxPool", "Relu", "ReduceMax")),
]


@pytest.mark.parametrize(("value", "then"), PADDING)
def test_padding(bench: Bench, value: float, then: str) -> None:
    attributes: dict[str, dict[str, Any]] = {
        "MaxPool": {"kernel_shape": [3, 3]},
        "ReduceMax": {"axes": [2, 3]},
        "Transpose": {"perm": [0, 1, 3, 2]},
    }
    nodes = [
        STEM,
        node("Relu", "a", "q"),
        node("Pad", "q pads value", "p"),
        node(then, "p", "r", **attributes.get(then, {})),
        HEAD,
    ]
    stored = {**CONSTANTS, "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(value)}
    bench.save(model(nodes, {"x": [1, 3, 8, 8]}, ["y"], stored), x=samples(8, 3, 8, 8))
    variants = bench.build(KINDS_16)
    assert {name: each.reason for name, each in variants.items() if each.path is None and each.state != "impossible"} == {}
    found = bench.fidelity(variants)
    assert min(found.values()) > 20, found


def test_two_pads_share_a_value_that_is_computed(bench: Bench) -> None:
    nodes = [
        node("ReduceMin", "x", "least", keepdims=0),
        STEM,
        node("Pad", "a pads least", "p"),
        node("Conv", "p u", "q"),
        node("Pad", "q pads least", "r"),
        node("Add", "r least", "y"),
    ]
    stored = {**CONSTANTS, "u": weights(6, 6, 1, 1), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    bench.save(model(nodes, {"x": [1, 3, 8, 8]}, ["y"], stored), x=samples(8, 3, 8, 8))
    variants = bench.build(KINDS_16)
    assert not any("fails" in note for each in variants.values() for note in each.notes)
    assert min(bench.fidelity(variants).values()) > 25


@pytest.mark.parametrize("operator", ["ScatterElements", "ScatterND", "Concat"])
@pytest.mark.parametrize("then", ["Softmax", "TopK", "ReduceMax"])
def test_values_that_are_put_in_between(bench: Bench, operator: str, then: str) -> None:
    places = np.arange(0, 20, 5)
    index = places[None] if operator == "ScatterElements" else np.stack([places * 0, places], 1)
    marks = np.full((4,) if operator == "ScatterND" else (1, 4), -1e9, np.float32)
    taken = "s marks" if operator == "Concat" else "s index marks"
    attributes: dict[str, Any] = {"axis": 1} if operator != "ScatterND" else {}
    ends = {
        "Softmax": [node("Softmax", "m", "p"), node("ReduceMax", "p", "t", axes=[1])],
        "TopK": [node("TopK", "m count", "t places")],
        "ReduceMax": [node("ReduceMax", "m", "t", axes=[1])],
    }
    nodes = [node("MatMul", "x w", "s"), node(operator, taken, "m", **attributes), *ends[then], node("Mul", "t two", "y")]
    stored = {"w": weights(16, 20) * 4, "index": index, "marks": marks, "count": np.array([3]), "two": np.float32(2)}
    bench.save(model(nodes, {"x": [1, 16]}, ["y"], stored), x=samples(8, 16))
    found = bench.fidelity(bench.build(KINDS_16))
    assert min(found.values()) > 20, found


@pytest.mark.parametrize("calibration", ["Percentile", "Entropy", "Distribution"])
def test_infinite_values_in_other_calibrations(bench: Bench, calibration: str) -> None:
    made = attention([node("Where", "keep s big", "m")], constants(-np.inf))
    bench.save(made, x=samples(8, SIZE, 16), keep=masks(seen=True))
    variants = bench.build(KINDS_8 + f'calibrations = ["{calibration}"]\n')
    assert {name: each.reason for name, each in variants.items() if each.path is None and each.state != "impossible"} == {}
    assert min(bench.fidelity(variants).values()) > (4 if calibration == "Distribution" else 15)


def test_masked_experts(bench: Bench) -> None:
    """What is not among the largest is set to minus infinity before a Softmax."""
    nodes = [
        node("MatMul", "x w", "s"),
        node("ReduceMean", "s", "level", axes=[2]),
        node("Greater", "s level", "keep"),
        node("Where", "keep s big", "m"),
        node("Softmax", "m", "p"),
        node("MatMul", "p v", "y"),
    ]
    stored = {"w": weights(16, 8) * 4, "v": weights(8, 16) * 4, "big": np.float32(-np.inf)}
    bench.save(model(nodes, {"x": [1, 4, 16]}, ["y"], stored), x=samples(8, 4, 16))
    found = bench.fidelity(bench.build(KINDS_8))
    assert min(found.values()) > 12, found


def test_a_large_bias_is_no_mask(bench: Bench) -> None:
    """Values of 20000 beside a bias of as much: nothing stays in float."""
    nodes = [node("MatMul", "x w", "s"), node("Add", "s bias", "t"), node("MatMul", "t v", "y")]
    stored = {"w": weights(16, 8) * 20_000, "bias": weights(8) * 20_000, "v": weights(8, 4)}
    bench.save(model(nodes, {"x": [1, 4, 16]}, ["y"], stored), x=samples(8, 4, 16))
    variants = bench.build(KINDS_16)
    assert not [note for each in variants.values() for note in each.notes if "beyond" in note]
