from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.build import build
from harness.quantize.model import validity
from harness.study import study as studies
from tests.models import make_model

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto


def model(*, groups: int | None = 2) -> ModelProto:
    """A convolution and the GroupNormalization that opset 18 had."""
    given = {} if groups is None else {"num_groups": groups}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("GroupNormalization", ["c", "s", "b"], ["y"], "norm", **given),  # type: ignore[arg-type]
    ]
    weights = {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)}
    weights |= {"s": np.array([1.5, 0.5], np.float32), "b": np.array([0.1, -0.2], np.float32)}
    return make_model(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 4, 8, 8]}, weights, opset=18)


def test_what_onnx_withdrew_is_valid() -> None:
    with pytest.raises(onnx.checker.ValidationError, match="deprecated"):
        onnx.checker.check_model(model())
    validity.check(model())


def test_the_rest_of_such_a_model_is_checked(tmp_path: Path) -> None:
    broken = model()
    broken.graph.node[0].input[1] = "nowhere"
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        validity.check(broken)
    onnx.save(broken, tmp_path / "m.onnx")
    validity.check(tmp_path / "m.onnx")  # by its path, as a model of more than 2 GB: the tensors are not looked for


def test_such_a_model_is_quantized(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    study = studies.for_model(tmp_path / "m.onnx", calibration="random")
    for variant in build(study, tmp_path / "out"):
        assert variant.state in {"made", "impossible"}, (variant.name, variant.reason)
        assert not any("does not load" in note for note in variant.notes)
