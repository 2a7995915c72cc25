"""What something besides its Relu or Clip sees keeps its range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import helper

from tests.quantize.steps.models import model, node, samples, weights
from tests.quantize.steps.test_keep_clamps import CONSTANTS, HEAD, KINDS, STEM, build

if TYPE_CHECKING:
    from tests.quantize.steps.conftest import Bench

SIZE = {"x": [1, 3, 8, 8]}


@pytest.mark.parametrize("clamp", ["Relu", "Clip"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_an_output_before_a_clamp(bench: Bench, clamp: str, place: str) -> None:
    nodes = [STEM, node(clamp, "a" if clamp == "Relu" else "a zero high", "r"), HEAD]
    found, notes = build(bench, model(nodes, SIZE, ["a", "y"] if place == "first" else ["y", "a"], CONSTANTS))
    assert min(found.values()) > 25, found
    assert any("'a'" in note for each in notes.values() for note in each)


@pytest.mark.parametrize("operator", ["Exp", "Softplus", "If"])
def test_a_taker_that_is_not_quantized(bench: Bench, operator: str) -> None:
    """An Exp takes it too, or only a body does; the Relu is not its sole taker."""
    bodies = [
        helper.make_graph([node(kind, "a", kind)], kind, [], [helper.make_tensor_value_info(kind, 1, None)])
        for kind in ("Neg", "Abs")
    ]
    other = [node(operator, "a", "e")]
    if operator == "If":
        other = [
            node("ReduceMean", "x", "m", keepdims=0),
            node("Greater", "m zero", "t"),
            node("If", "t", "e", then_branch=bodies[0], else_branch=bodies[1]),
        ]
    nodes = [STEM, *other, node("Relu", "a", "r"), HEAD]
    found, _ = build(bench, model(nodes, SIZE, ["y", "e"], CONSTANTS))
    assert min(found.values()) > 20, found


def test_a_softmax_over_many_classes(bench: Bench) -> None:
    """Its largest value is 0.01, and steps of 1/255 would leave two of them."""
    nodes = [node("MatMul", "x w", "h"), node("Softmax", "h", "p"), node("MatMul", "p v", "y")]
    constants = {"w": weights(16, 800) * 3, "v": weights(800, 8) * 30}
    bench.save(model(nodes, {"x": [1, 16]}, ["y", "p"], constants), x=samples(8, 16) / 4)
    found = bench.fidelity(bench.build(KINDS))
    assert min(found.values()) > 18, found


@pytest.mark.parametrize("spread", [0.8, 1.0, 1.2, 1.5, 2.0])
@pytest.mark.parametrize("moved", [False, True])
def test_a_softmax_over_many_positions(bench: Bench, spread: float, moved: bool) -> None:
    """The largest value is 0.1 or more, and most lie far below one step of 1/255."""
    middle = [node("Reshape", "p shape", "r"), node("MatMul", "r v", "y")] if moved else [node("MatMul", "p v", "y")]
    constants = {"w": weights(16, 600) * 24.5 * spread / 4, "v": weights(600, 8) * 24.5, "shape": np.array([1, 600])}
    nodes = [node("MatMul", "x w", "h", "fc"), node("Softmax", "h", "p", "the softmax"), *middle]
    bench.save(model(nodes, {"x": [1, 16]}, ["y"], constants), x=samples(64, 16))
    found = bench.fidelity(bench.build(KINDS))
    assert min(found.values()) > 15, found


def test_an_average_that_is_much_smaller_than_its_parts(bench: Bench) -> None:
    nodes = [STEM, node("AveragePool", "a", "r", kernel_shape=[8, 8]), HEAD]
    constants = {**CONSTANTS, "w": weights(6, 3, 3, 3) * 100, "b": np.zeros(6, np.float32)}
    bench.save(model(nodes, SIZE, ["y"], constants), x=np.sign(samples(8, 3, 8, 8)))
    found = bench.fidelity(bench.build(KINDS))
    assert min(found.values()) > 15, found
