"""A Transpose that moves the batch axis before a MatMul, of which onnxruntime dies in float16: fp16 variants load and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.quantize.recipe import Recipe
from harness.quantize.steps import batch_transpose
from harness.quantize.verify import isolated
from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import NodeProto

    from tests.quantize.steps.conftest import Bench

FP16 = '[variants]\nmethods = ["fp16"]\n'
RECIPE = Recipe(name="t", method="fp16")
MIDDLES: dict[str, list[NodeProto]] = {
    "at once": [node("Identity", "t", "d")],
    "behind a Reshape": [node("Reshape", "t s", "d")],
}
MULTIPLY = node("MatMul", "d w", "y", "multiply")


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    isolated.end()


def moved(perm: list[int], *middle: NodeProto, shape: list[int], opset: int = 17) -> object:
    nodes = [node("Transpose", "x", "t", "moved", perm=perm), *middle, MULTIPLY]
    sizes = [shape[axis] for axis in perm]
    return model(nodes, {"x": shape}, ["y"], {"w": weights(sizes[-1], 6), "s": np.array(sizes)}, opset=opset)


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize("middle", MIDDLES)
@pytest.mark.parametrize("perm", [[1, 0, 2], [1, 2, 0], [1, 2, 0, 3], [1, 2, 3, 0]])
def test_it_stays_in_float32(bench: Bench, perm: list[int], middle: str, opset: int) -> None:
    shape = [5, 4, 8, 7][: len(perm)]
    bench.save(moved(perm, *MIDDLES[middle], shape=shape, opset=opset), x=samples(4, *shape))  # type: ignore[arg-type]
    variants = bench.build(FP16)
    assert any(note.startswith("batch-transpose: 'moved' stays in float32") for note in variants["fp16"].notes), variants
    # The file that the test process itself must not load.
    path = variants["fp16"].path
    assert path is not None
    (outputs,) = isolated.load_and_run(path, [{"x": samples(1, *shape)[0]}])
    assert np.isfinite(outputs[0]).all()


def test_without_the_step_the_variant_fails_and_others_are_made(bench: Bench) -> None:
    bench.save(moved([1, 0, 2], *MIDDLES["at once"], shape=[1, 5, 8]), x=samples(4, 1, 5, 8))  # type: ignore[arg-type]
    variants = bench.build('[variants]\nmethods = ["fp16", "dynamic"]\nskip_steps = ["batch-transpose"]\n')
    states = {each.recipe.method: each.state for each in variants.values()}
    assert states == {"fp32": "made", "dynamic": "made", "fp16": "failed"}
    (reason,) = (each.reason for each in variants.values() if each.state == "failed")
    assert "dies (SIG" in str(reason)


@pytest.mark.parametrize("perm", [[0, 2, 1], [2, 1, 0], [0, 1, 2]])
def test_other_orders_are_converted(perm: list[int]) -> None:
    made = moved(perm, *MIDDLES["at once"], shape=[3, 4, 5])
    assert not batch_transpose.decide(made, RECIPE, None).float_nodes  # type: ignore[arg-type]
