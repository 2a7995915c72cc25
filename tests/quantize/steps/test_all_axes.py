"""Pad and Resize that name axes, between two Conv."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.recipe import Recipe
from harness.quantize.steps import all_axes
from tests.models import make_model
from tests.quantize.steps.conftest import STATIC, Bench, decibels, run
from tests.quantize.steps.test_shared_constants import normal

if TYPE_CHECKING:
    from onnx import ModelProto

node = helper.make_node
RECIPE = Recipe(name="r", method="static", format="QDQ", activation="QUInt8", weight="QInt8")


def integers(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def floats(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


def between(
    kind: str, inputs: list[str], opset: int = 18, batch: int | str = 1, *, computed: str = "", **said: Any
) -> ModelProto:
    """Conv, this, Conv; ``computed`` names a constant that is computed while the model runs."""
    held = {key: said.pop(key) for key in list(said) if isinstance(said[key], np.ndarray)}
    weights = {"w0": normal(0, 6, 3, 3, 3) / 5, "w1": normal(1, 4, 6, 3, 3) / 7, **held}
    nodes = [node("Conv", ["x", "w0"], ["a"], "before"), node(kind, ["a", *inputs], ["q"], "between", **said)]
    nodes.append(node("Conv", ["q", "w1"], ["y"], "after"))
    if computed:
        # Less the difference of two sizes that are the same: no tool computes it beforehand.
        weights["nought"] = np.zeros(1, held[computed].dtype)
        weights["first"] = integers(0)
        nodes = [
            node("Shape", ["x"], ["shape"], "shape", start=0, end=1),
            node("Sub", ["shape", "shape_again"], ["none"], "none"),
            node("Cast", ["none"], ["cast"], "cast", to=helper.np_dtype_to_tensor_dtype(held[computed].dtype)),
            node("Sub", [f"{computed}_", "cast"], [computed], "less"),
            *nodes,
        ]
        nodes.insert(1, node("Shape", ["x"], ["shape_again"], "shape_again", start=0, end=1))
        weights[f"{computed}_"] = weights.pop(computed)
    return make_model(nodes, {"x": [batch, 3, 12, 12]}, {"y": list("abcd")}, weights, opset=opset)


CASES: dict[str, ModelProto] = {
    "pad": between("Pad", ["p", "", "ax"], p=integers(1, 2, 0, 1), ax=integers(2, 3)),
    "pad with a value": between("Pad", ["p", "v", "ax"], p=integers(1, 1), ax=integers(3), v=np.array(0.5, np.float32)),
    "pad from behind": between("Pad", ["p", "", "ax"], p=integers(1, 2, 0, 1), ax=integers(-2, -1), mode="reflect"),
    "pad in another order": between(
        "Pad", ["p", "", "ax"], p=integers(0, 0, 2, 0, 0, 0, 0, 3), ax=integers(0, 1, 3, 2), mode="edge"
    ),
    "pad, open batch": between("Pad", ["p", "", "ax"], batch="n", p=integers(1, 2, 0, 1), ax=integers(2, 3)),
    "pad, computed": between("Pad", ["p", "", "ax"], batch="n", computed="p", p=integers(1, 2, 0, 1), ax=integers(2, 3)),
    "scales": between("Resize", ["", "s"], s=floats(2, 1.5), axes=[2, 3], mode="nearest"),
    "scales in another order": between("Resize", ["", "s"], s=floats(1, 1, 2, 1), axes=[0, 1, 3, 2], mode="linear"),
    "scales, computed": between("Resize", ["", "s"], batch="n", computed="s", s=floats(2, 1.5), axes=[3, 2], mode="nearest"),
    "sizes": between("Resize", ["", "", "z"], z=integers(20, 15), axes=[2, 3], mode="nearest"),
    "sizes, open batch": between("Resize", ["", "", "z"], batch="n", z=integers(20, 15), axes=[-2, -1], mode="linear"),
    "region": between(
        "Resize",
        ["roi", "s"],
        roi=floats(0.1, 0.2, 0.9, 1.0),
        s=floats(2, 1.5),
        axes=[2, 3],
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_no_output_changes(case: str) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(CASES[case])
    feed = {"x": normal(2, 1, 3, 12, 12)}
    (before,) = run(model.SerializeToString(), feed, optimized=False)
    assert all_axes.rewrite(model, all_axes.find(model, RECIPE)).notes
    assert not all_axes.find(model, RECIPE)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model.SerializeToString(), feed, optimized=False)[0], before)


@pytest.mark.parametrize("case", [case for case in CASES if case != "region"])
def test_each_variant_comes_near_fp32(bench: Bench, case: str) -> None:
    bench.save(CASES[case], x=normal(3, 16, 3, 12, 12))
    variants = bench.build(STATIC, {"n": [1]} if CASES[case].graph.input[0].type.tensor_type.shape.dim[0].dim_param else None)
    for variant in variants.values():
        assert variant.state == "made", variant.reason
        assert variant.recipe.method != "static" or any("all-axes" in note and "'between'" in note for note in variant.notes)
    # Optimized, onnxruntime computes something else of the float model, too, where Resize names the axes in another order.
    feeds = [{"x": normal(seed, 1, 3, 12, 12)} for seed in range(4)]
    for feed in feeds:
        wanted = run(bench.folder / "m.onnx", feed, optimized=False)
        for variant in variants.values():
            if variant.path is not None and variant.recipe.method == "static":
                assert decibels(wanted, run(variant.path, feed)) > 25


def test_nodes_that_name_all_axes_are_left() -> None:
    for model in (
        between("Pad", ["p", "", "ax"], p=integers(*[0, 0, 1, 1] * 2), ax=integers(0, 1, 2, 3)),
        between("Pad", ["p"], p=integers(*[0, 0, 1, 1] * 2)),
        between("Resize", ["", "s"], s=floats(1, 1, 2, 2), mode="nearest"),
    ):
        assert not all_axes.find(model, RECIPE)
