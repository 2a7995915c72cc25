"""A Relu or Clip goes only where integers clamp in its place, in both formats and all types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from harness.quantize.steps.keep_clamps import clamps_alike
from tests.quantize.steps.conftest import run
from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from onnx import ModelProto

    from tests.quantize.steps.conftest import Bench

KINDS = (
    '[variants]\nmethods = ["static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8", "QInt8", "QUInt16"]\n'
    'weights = ["QInt8", "QUInt8"]\n'
)
STEM = node("Conv", "x w b", "a", pads=[1, 1, 1, 1])
HEAD = node("Conv", "r v", "y")
CONSTANTS: dict[str, Any] = {
    "w": weights(6, 3, 3, 3),
    "b": weights(6, seed=4) * 2,
    "v": weights(4, 6, 1, 1),
    "zero": np.float32(0),
    "low": np.float32(0.4),
    "high": np.float32(1.5),
    "shape": np.array([1, 6, 64]),
    "back": np.array([1, 6, 8, 8]),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "one": np.array([0]),
}
BETWEEN: dict[str, list[NodeProto]] = {
    "reshape": [node("Reshape", "a shape", "c"), node("Reshape", "r0 back", "r")],
    "transpose": [node("Transpose", "a", "c", perm=[0, 1, 3, 2]), node("Identity", "r0", "r")],
    "max pool": [node("MaxPool", "a", "c", kernel_shape=[2, 2]), node("Identity", "r0", "r")],
    "resize": [node("Resize", "a - scales", "c", mode="nearest"), node("Identity", "r0", "r")],
    "squeeze": [node("Squeeze", "a one", "c"), node("Unsqueeze", "r0 one", "r")],
    "split": [node("Split", "a", "c d", axis=2), node("Concat", "r0 d", "r", axis=2)],
    "nothing": [node("Identity", "a", "c"), node("Identity", "r0", "r")],
    "a second taker": [node("Identity", "a", "c"), node("Add", "r0 a", "r")],
}
CLAMPS = {
    "relu": node("Relu", "c", "r0", "clamp"),
    "relu6": node("Clip", "c zero high", "r0", "clamp"),
    "without zero": node("Clip", "c low high", "r0", "clamp"),
    "below": node("Clip", "c - low", "r0", "clamp"),
    "above": node("Clip", "c low", "r0", "clamp"),
    "computed": node("Clip", "c least", "r0", "clamp"),
}


def build(bench: Bench, made: ModelProto, more: str = KINDS) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    """The SQNR, and the notes, of each variant that was made."""
    bench.save(made, x=samples(8, *(dim.dim_value for dim in made.graph.input[0].type.tensor_type.shape.dim[1:])))
    variants = bench.build(more)
    failed = {name: each.reason for name, each in variants.items() if each.path is None and each.state != "impossible"}
    assert not failed
    notes = {name: each.notes for name, each in variants.items()}
    return bench.fidelity(variants), notes


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("between", BETWEEN)
def test_no_clamp_is_lost(bench: Bench, between: str, clamp: str) -> None:
    first, last = BETWEEN[between]
    target = NodeProto.FromString(CLAMPS[clamp].SerializeToString())
    before, after = ([] if each.op_type == "Identity" else [each] for each in (first, last))
    if not before:
        target.input[0] = "a"
    if not after:
        target.output[0] = "r"
    computed = [node("ReduceMean", "x", "least", keepdims=0)]
    made = model([*computed, STEM, *before, target, *after, HEAD], {"x": [1, 3, 8, 8]}, ["y"], CONSTANTS)
    found, _ = build(bench, made, KINDS.replace(', "QUInt8"]\n', "]\n"))
    assert min(found.values()) > 25, found


@pytest.mark.parametrize("clamp", ["Relu a", "Clip a zero high"])
def test_a_body_takes_what_is_clamped(bench: Bench, clamp: str) -> None:
    kind, _, inputs = clamp.partition(" ")
    branches = {}
    for branch, factor in (("then_branch", "r"), ("else_branch", "high")):
        inner = [node("Mul", f"r {factor}", branch)]
        given = [helper.make_tensor_value_info(branch, TensorProto.FLOAT, [1, 6, 8, 8])]
        branches[branch] = helper.make_graph(inner, branch, [], given)
    chosen = [
        node("ReduceMean", "x", "mean", keepdims=0),
        node("Greater", "mean zero", "positive"),
        node("If", "positive", "i", **branches),
    ]
    made = model(
        [STEM, node(kind, inputs, "r"), *chosen, HEAD, node("Conv", "i v", "z")], {"x": [1, 3, 8, 8]}, ["y", "z"], CONSTANTS
    )
    found, _ = build(bench, made)
    assert min(found.values()) > 25, found


def test_a_clamp_that_stays_is_named(bench: Bench) -> None:
    made = model([STEM, node("Clip", "a low high", "r", "the clip"), HEAD], {"x": [1, 3, 8, 8]}, ["y"], CONSTANTS)
    _, notes = build(bench, made)
    assert all(any("'the clip'" in note for note in each) for name, each in notes.items() if each)
    assert sum(map(bool, notes.values())) == 8


@pytest.mark.parametrize(
    "options",
    [
        "calibration_options = { symmetric = true }",
        "extra_options = { MinimumRealRange = 0.0001 }",
        "reduce_range = true",
        'calibration = "Distribution"',
        'calibration = "Percentile"',
        "extra_options = { TensorQuantOverrides = { r = { rmin = -6.0, rmax = 6.0 } } }",
        "extra_options = { TensorQuantOverrides = { r = { symmetric = true } } }",
        'extra_options = { OpTypesToExcludeOutputQuantization = ["Relu"] }',
        "extra_options = { ForceQuantizeNoInputCheck = true }",
    ],
)
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_options_that_widen_a_range(bench: Bench, options: str, form: str) -> None:
    made = model([STEM, node("Relu", "a", "r"), HEAD], {"x": [1, 3, 8, 8]}, ["y"], CONSTANTS)
    text = f'[[variant]]\nname = "v"\nmethod = "static"\nformat = "{form}"\nactivation = "QUInt8"\nweight = "QInt8"\n{options}\n'
    found, _ = build(bench, made, '[variants]\nmethods = ["fp32"]\n' + text)
    assert found["v"] > (12 if "Distribution" in options else 20), found


def test_a_logarithm_gets_no_zero(bench: Bench) -> None:
    """A small lower bound is a step of 0 for integers, whose logarithm is not finite."""
    nodes = [
        node("MatMul", "x m", "l"),
        node("Softmax", "l", "p", axis=-1),
        node("Clip", "p least one", "c", "the clip"),
        node("Log", "c", "y"),
    ]
    stored = {"m": weights(16, 40) * 8, "least": np.float32(1e-7), "one": np.float32(1)}
    bench.save(model(nodes, {"x": [1, 16]}, ["y"], stored), x=samples(32, 16))
    variants = bench.build(KINDS)
    found = {name: run(each.path, {"x": samples(32, 16)[:1]})[0] for name, each in variants.items() if each.path is not None}
    assert {name for name, output in found.items() if not np.isfinite(output).all()} == set()


def test_a_clip_behind_a_removed_relu_does_the_work_of_both(bench: Bench) -> None:
    nodes = [STEM, node("Relu", "a", "q"), node("Clip", "q - high", "r"), HEAD]
    text = (
        '[[variant]]\nmethod = "static"\nactivation = "QUInt8"\nweight = "QInt8"\n'
        "extra_options = { TensorQuantOverrides = { r = { rmin = -3.0, rmax = 1.5 } } }\n"
    )
    found, _ = build(bench, model(nodes, {"x": [1, 3, 8, 8]}, ["y"], CONSTANTS), text)
    assert min(found.values()) > 20, found


@pytest.mark.parametrize(
    ("scale", "zero_point", "bounds", "expected"),
    [
        (0.1, 0, (0, np.inf), True),
        (0.1, 128, (0, np.inf), False),
        (0.1, 0, (0, 25.5), True),
        (0.1, 0, (0, 25.4), False),
        (2 / 255, 128, (-1, 1), True),
        (8.4 / 255, 42, (-1.4, 7), True),
        (0.1, 0, (0.4, 25.5), False),
        (0.1, 10, (-1, 24.5), True),
        (0.1, 10, (-0.9, 24.5), False),
        (0.1, 0, (-np.inf, np.inf), True),
    ],
)
def test_bounds_are_compared_as_integers(scale: float, zero_point: int, bounds: tuple[float, float], expected: bool) -> None:
    assert clamps_alike(scale, zero_point, (0, 255), bounds) is expected
