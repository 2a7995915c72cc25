"""Whatever small graph hypothesis thinks of: preparation steps leave its outputs as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, event, given, settings

from harness.quantize.models.graph import fix_initializers, name_nodes
from harness.quantize.recipe import Recipe
from harness.quantize.steps.registry import STEPS
from tests.quantize.graphs import RandomModel, models
from tests.quantize.steps.conftest import run

if TYPE_CHECKING:
    from harness.quantize.steps.step import Step

# Steps that compute new constants round them; all others copy, rename or store what is there.
ROUNDING = {"fold-gemm"}
RECIPES = (
    Recipe(name="r", method="static", format="QOperator", activation="QUInt8", weight="QInt8", per_channel=True),
    Recipe(name="r", method="static", format="QDQ", activation="QInt8", weight="QInt8"),
    Recipe(name="r", method="dynamic", weight="QInt8", per_channel=True),
    Recipe(name="r", method="nbits", format="QDQ", bits=4, block_size=32),
    Recipe(name="r", method="fp16"),
)


@pytest.mark.parametrize("step", [step for step in STEPS if step.rewrite], ids=lambda step: step.key)
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(random=models())
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
