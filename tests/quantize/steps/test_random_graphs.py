"""Whatever small graph hypothesis thinks of: preparation steps leave its outputs as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from onnx import helper

from harness.quantize.model.graph import fix_initializers, name_nodes
from harness.quantize.recipe import Recipe
from harness.quantize.steps.registry import STEPS
from tests.models import make_model
from tests.quantize.graphs import RandomModel, models
from tests.quantize.steps.conftest import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn
    from numpy.typing import NDArray

    from harness.quantize.step import Step

# Steps that compute new constants round them; all others copy, rename or store what is there.
ROUNDING = {"fold-gemm"}
RECIPES = (
    Recipe(name="r", method="static", format="QOperator", activation="QUInt8", weight="QInt8", per_channel=True),
    Recipe(name="r", method="static", format="QDQ", activation="QInt8", weight="QInt8"),
    Recipe(name="r", method="dynamic", weight="QInt8", per_channel=True),
    Recipe(name="r", method="nbits", format="QDQ", bits=4, block_size=32),
    Recipe(name="r", method="fp16"),
)


NAMES = (
    "w",
    "w_scale",
    "b",
    "b_quantized",
    "t_quant",
    "gemm",
    "gemm_MatMul",
    "x_cast_to_fp16",
    "h_zero_point",
    "b1",
    "w_Q4",
    "k{}",
    "k{}",
)
SIZE = 4


@st.composite
def tangled(draw: DrawFn) -> RandomModel:
    """Draw a chain of nodes on square matrices that share few constants, under names that the tools give as well."""
    pool = {
        "square": [np.random.default_rng(seed).standard_normal((SIZE, SIZE)).astype(np.float32) for seed in range(2)],
        "bias": [np.ones(shape, np.float32) for shape in ((SIZE,), (1,), (), (1, SIZE), (SIZE, 1), (SIZE, SIZE))],
    }
    fresh = [name.format(number) for number, name in enumerate(NAMES)] + [f"v{number}" for number in range(40)]
    weights: dict[str, NDArray[Any]] = {}
    known: dict[tuple[str, int], str] = {}

    def name() -> str:
        return fresh.pop(draw(st.integers(0, min(12, len(fresh) - 1))))

    def constant(kind: str) -> str:
        key = (kind, draw(st.integers(0, len(pool[kind]) - 1)))
        if key not in known:
            known[key] = name()
            weights[known[key]] = pool[kind][key[1]]
        return known[key]

    nodes, tensors = [], ["x"]
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["Gemm", "Gemm", "MatMul", "Add", "Mul", "Tanh", "Relu"]))
        last, other = tensors[-1], draw(st.sampled_from(tensors))
        inputs = [last]
        attributes: dict[str, Any] = {}
        if kind == "Gemm":
            inputs.append(draw(st.sampled_from([constant("square"), other])))
            inputs += draw(st.sampled_from([[constant("bias")], [other], []]))
            numbers = st.sampled_from([1.0, 1.0, 0.5, 0.0, -2.0])
            attributes = {"alpha": draw(numbers), "beta": draw(numbers), "transB": draw(st.integers(0, 1))}
        elif kind in {"MatMul", "Add", "Mul"}:
            inputs.append(
                draw(st.sampled_from([constant("square"), constant("square") if kind == "MatMul" else constant("bias"), other]))
            )
        tensors.append(name())
        nodes.append(helper.make_node(kind, inputs, tensors[-1:], draw(st.sampled_from([f"n{number}", name()])), **attributes))
    ends = draw(st.sampled_from([tensors[-1:], tensors[-1:] + [*known.values()][:1], list(dict.fromkeys(tensors[-2:]))]))
    ends = [end for end in ends if end != "x"]
    values: dict[str, Sequence[int | str | None]] = {
        end: list(weights[end].shape) if end in weights else [SIZE, SIZE] for end in ends
    }
    return RandomModel(make_model(nodes, {"x": [SIZE, SIZE]}, values, weights), "x", (SIZE, SIZE))


@pytest.mark.parametrize("step", [step for step in STEPS if step.rewrite], ids=lambda step: step.key)
@settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(random=st.one_of(models(), tangled(), tangled()))
def test_a_step_changes_no_output(step: Step, random: RandomModel) -> None:
    assert step.find is not None
    assert step.rewrite is not None
    plain = onnx.ModelProto()
    plain.CopyFrom(random.proto)
    fix_initializers(plain)
    name_nodes(plain)
    feed = {random.name: np.random.default_rng(5).standard_normal(random.shape).astype(np.float32)}
    reference = None
    for recipe in RECIPES:
        if not step.applies(recipe) or not (wanted := tuple(step.find(plain, recipe))):
            continue
        event(f"{step.key} for {recipe.method}")
        model = onnx.ModelProto()
        model.CopyFrom(plain)
        changes = step.rewrite(model, wanted)
        assert changes.notes
        assert not step.find(model, recipe), "a second time there is nothing left to do"
        onnx.checker.check_model(model, full_check=True)
        reference = reference or run(plain.SerializeToString(), feed, optimized=False)
        for one, other in zip(reference, run(model.SerializeToString(), feed, optimized=False), strict=True):
            if step.key in ROUNDING:
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
            else:
                np.testing.assert_array_equal(one, other)
