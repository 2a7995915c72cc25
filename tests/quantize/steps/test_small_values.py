"""Values that come near 0 reach a logarithm, a reciprocal, a denominator or a negative power in float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.quantize.steps.conftest import decibels, run
from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from onnx import NodeProto

    from tests.quantize.steps.conftest import Bench

KINDS = '[variants]\nmethods = ["static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8", "QInt8", "QUInt16"]\nweights = ["QInt8"]\n'
CONSTANTS: dict[str, Any] = {
    "m": weights(16, 40) * 8,
    "least": np.float32(1e-7),
    "one": np.float32(1),
    "two": np.float32(2),
    "most": np.float32(1 - 1e-6),
    "minus": np.float32(-0.5),
    "shape": np.array([8, 5]),
    "first": np.array([0]),
    "last": np.array([20]),
    "axis": np.array([1]),
    "bank": np.abs(weights(40, 6)),
}
STEM = node("MatMul", "x m", "l", "the product")
SOFTMAX, SIGMOID = node("Softmax", "l", "p", "the softmax", axis=-1), node("Sigmoid", "l", "p", "the sigmoid")
TAILS: dict[str, list[NodeProto]] = {
    "log": [SOFTMAX, node("Log", "p", "y")],
    "clip": [SOFTMAX, node("Clip", "p least one", "c"), node("Log", "c", "y")],
    "clip reshape": [SOFTMAX, node("Clip", "p least one", "c"), node("Reshape", "c shape", "r"), node("Log", "r", "y")],
    "max": [SOFTMAX, node("Max", "p least", "c"), node("Log", "c", "y")],
    "add": [SOFTMAX, node("Add", "p least", "c"), node("Log", "c", "y")],
    "transpose max": [SOFTMAX, node("Transpose", "p", "t"), node("Max", "t least", "c"), node("Log", "c", "y")],
    "slice": [SOFTMAX, node("Slice", "p first last axis", "s"), node("Add", "s least", "c"), node("Log", "c", "y")],
    "max reciprocal": [SOFTMAX, node("Max", "p least", "c"), node("Reciprocal", "c", "y")],
    "divided by": [SOFTMAX, node("Add", "p least", "c"), node("Div", "l c", "y")],
    "odds": [SOFTMAX, node("Sub", "one p", "q"), node("Div", "p q", "d"), node("Log", "d", "y")],
    "power": [SOFTMAX, node("Pow", "p minus", "y")],
    "root": [SOFTMAX, node("Sqrt", "p", "s"), node("Reciprocal", "s", "y")],
    "square": [SOFTMAX, node("Mul", "p p", "s"), node("Log", "s", "y")],
    "entropy": [SOFTMAX, node("Log", "p", "q"), node("Mul", "p q", "y")],
    "sigmoid": [SIGMOID, node("Log", "p", "y")],
    "one less": [SIGMOID, node("Sub", "one p", "q"), node("Log", "q", "y")],
    "inverse sigmoid": [
        SIGMOID,
        *(node("Clip", "p least one", "c"), node("Sub", "one p", "q"), node("Clip", "q least one", "d")),
        *(node("Div", "c d", "e"), node("Log", "e", "y")),
    ],
    "filter bank": [node("Mul", "l l", "p"), node("MatMul", "p bank", "e"), node("Add", "e least", "c"), node("Log", "c", "y")],
    "softplus": [node("Exp", "l", "p"), node("Add", "p one", "c"), node("Log", "c", "y")],
    "reduced": [SOFTMAX, node("ReduceLogSum", "p", "y", axes=[0], keepdims=0)],
    "near 1": [node("Tanh", "l", "p"), node("Mul", "p most", "q"), node("Reshape", "q shape", "r"), node("Atanh", "r", "y")],
    "another taker": [SOFTMAX, node("MatMul", "p bank", "z"), node("Log", "p", "y")],
}


@pytest.mark.parametrize("tail", TAILS)
def test_small_values_reach_the_node_that_needs_them(bench: Bench, tail: str) -> None:
    # The energies of quiet and loud samples differ by a factor of a million.
    data = samples(32, 16) * (np.logspace(-3, 0, 32, dtype=np.float32)[:, None] if tail == "filter bank" else 1)
    outputs = {"y": None, "z": None} if tail == "another taker" else {"y": None}
    bench.save(model([STEM, *TAILS[tail]], {"x": [1, 16]}, list(outputs), CONSTANTS), x=data)
    variants = bench.build(KINDS)
    del variants["fp32"], variants["static-QOperator-U16S8"]
    for name, made in variants.items():
        assert made.path is not None, made.reason
        for sample in data[:8]:
            wanted, found = run(bench.folder / "m.onnx", {"x": sample[None]}), run(made.path, {"x": sample[None]})
            assert np.isfinite(found[0]).all(), name
        if tail not in {"filter bank", "power", "divided by", "max reciprocal", "root"}:  # errors of the logits are factors there
            assert decibels(wanted, found) > 15, (name, decibels(wanted, found))
        assert any("float-small-values" in note for note in made.notes), name


def test_a_note_names_both_ends(bench: Bench) -> None:
    bench.save(
        model([STEM, SOFTMAX, node("Max", "p least", "c"), node("Log", "c", "y", "the log")], {"x": [1, 16]}, ["y"], CONSTANTS),
        x=samples(32, 16),
    )
    *_, made = bench.build().values()
    assert [note for note in made.notes if "'the softmax'" in note and "'the log' (Log)" in note]


def test_a_body_takes_the_logarithm(bench: Bench) -> None:
    branches = {}
    for branch, factor in (("then_branch", "one"), ("else_branch", "two")):
        inner = [
            node("Max", "p least", f"c_{branch}"),
            node("Log", f"c_{branch}", f"g_{branch}"),
            node("Mul", f"g_{branch} {factor}", branch),
        ]
        branches[branch] = helper.make_graph(
            inner, branch, [], [helper.make_tensor_value_info(branch, TensorProto.FLOAT, [1, 40])]
        )
    nodes = [
        STEM,
        SOFTMAX,
        node("ReduceMean", "x", "mean", keepdims=0),
        node("Greater", "mean least", "positive"),
        node("If", "positive", "y", **branches),
    ]
    bench.save(model(nodes, {"x": [1, 16]}, ["y"], CONSTANTS), x=samples(32, 16))
    assert min(bench.fidelity(bench.build(KINDS)).values()) > 15


ORDINARY: dict[str, list[NodeProto]] = {
    "a probability": [SOFTMAX, node("MatMul", "p bank", "y")],
    "a divisor far from 0": [SIGMOID, node("Add", "p two", "c"), node("Div", "l c", "y")],
    "a logarithm far from 0": [SIGMOID, node("Add", "p two", "c"), node("Log", "c", "y")],
    "a norm": [
        *(node("Mul", "l l", "q"), node("ReduceMean", "q", "v", axes=[-1]), node("Add", "v least", "c")),
        *(node("Sqrt", "c", "s"), node("Div", "l s", "y")),
    ],
    "a positive power": [SOFTMAX, node("Pow", "p two", "y")],
}


@pytest.mark.parametrize("tail", ORDINARY)
def test_other_models_are_left_alone(bench: Bench, tail: str) -> None:
    bench.save(model([STEM, *ORDINARY[tail]], {"x": [1, 16]}, ["y"], CONSTANTS), x=samples(32, 16))
    *_, with_step = bench.build().values()
    *_, without = bench.build(
        '[variants]\nmethods = ["static"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\nskip_steps = ["float-small-values"]\n'
    ).values()
    assert with_step.path is not None
    assert without.path is not None
    assert not [note for note in with_step.notes if "float-small-values" in note]
    assert with_step.path.read_bytes() == without.path.read_bytes()
