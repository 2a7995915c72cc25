"""Steps on models that count as large, whose tensors lie beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from harness.quantize import prepare
from harness.quantize.model import storage
from tests.quantize.steps import test_colliding_names, test_float_types, test_gemm, test_shared_constants

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from onnx import ModelProto

    from tests.quantize.steps.conftest import Bench

TEXT = '[variants]\nmethods = ["static", "dynamic", "nbits", "fp16"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\nper_channel = [true]\n'
CASES: dict[str, Callable[[], tuple[ModelProto, dict[str, Any]]]] = {
    "a shared bias": test_shared_constants.one_head_on_levels,
    "two axes": test_shared_constants.two_axes,
    "names": lambda: test_colliding_names.network({"factor": "w_scale", "r": "a_quantized"}),
    "a Gemm": lambda: test_gemm.network((16, 16), alpha=0.5, beta=3.0, twice=True),
    "float16": lambda: (
        test_float_types.CASES["plain"](onnx.TensorProto.FLOAT16),
        {"x": np.random.default_rng(3).standard_normal((16, 4, 32)).astype(np.float16)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_recipe_comes_near_fp32(bench: Bench, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    model, data = CASES[case]()
    monkeypatch.setattr(storage, "LARGE", 1000)
    for module in (storage, prepare):
        monkeypatch.setattr(module, "LEAST_TENSOR", 64)
    bench.save(model, **data)
    onnx.save(model, bench.folder / "m.onnx", save_as_external_data=True, size_threshold=64)
    variants = bench.build(TEXT)
    for variant in variants.values():
        impossible = variant.state == "impossible" and variant.recipe.method == "nbits"
        assert variant.state == "made" or impossible, (variant.name, variant.reason)
    for name, found in bench.fidelity(variants).items():
        assert found > (8 if variants[name].recipe.method == "nbits" else 25), (name, found)
