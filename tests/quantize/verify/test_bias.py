"""A bias that does not fit into int32 is told, and so is one that leaves no room for the products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.build import build
from harness.quantize.verify import bias
from harness.study.study import Study
from tests.models import make_model

HERE = Path()
MOST = 2**31 - 1


def conv(value: int, weight: int = 1, channels: int = 3, *, kind: str = "Conv") -> onnx.ModelProto:
    """A quantized Conv in QDQ, [8, channels, 3, 3] of a weight, with a bias that holds a value once."""
    shape = (8, channels, 3, 3) if kind == "Conv" else (channels, 8, 3, 3)
    held: dict[str, Any] = {
        "w": np.full(shape, weight, np.int8),
        "b": np.array([0, 1, 2, value, 4, 5, 6, 7], np.int64).astype(np.int32),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["wd"]),
        helper.make_node("DequantizeLinear", ["b", "scale"], ["bd"]),
        helper.make_node(kind, ["x", "wd", "bd"], ["y"], name="conv"),
    ]
    return make_model(nodes, {"x": [1, channels, 8, 8]}, {"y": [1, 8, "h", "w"]}, held)


@pytest.mark.parametrize("value", [MOST, -MOST, -MOST - 1])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_a_bias_that_is_cut(value: int, kind: str) -> None:
    (note,) = bias.notes(conv(value, kind=kind), HERE)
    assert "does not fit into int32 and is clipped: 'conv'" in note


def test_a_bias_that_fits() -> None:
    assert bias.notes(conv(MOST // 2), HERE) == []


@pytest.mark.parametrize(("channels", "room"), [(3, True), (2000, False)])
def test_room_for_the_products(channels: int, *, room: bool) -> None:
    value = MOST - 3 * 9 * 255 * 127
    assert (bias.notes(conv(value, weight=127, channels=channels), HERE) == []) == room


def test_biases_outside_the_file(tmp_path: Path) -> None:
    onnx.save(conv(MOST), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert len(bias.notes(model, tmp_path)) == 1


def test_float_biases_are_passed_over() -> None:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")]
    held = {"w": np.ones((4, 4), np.float32), "b": np.full(4, 1e30, np.float32)}
    assert bias.notes(make_model(nodes, {"x": [1, 4]}, {"y": [1, 4]}, held), HERE) == []


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_the_quantizer_cuts(write_study: Any, tmp_path: Path, form: str) -> None:
    """A weight far smaller than its bias: of unsigned weights the tools do not raise the scale."""
    rng = np.random.default_rng(0)
    weight = (1e-9 * rng.normal(size=(4, 2, 3, 3))).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="tiny")]
    held = {"w": weight, "b": np.array([3, -2, 1, 0.5], np.float32)}
    onnx.save(make_model(nodes, {"x": [1, 2, 8, 8]}, {"y": [1, 4, 6, 6]}, held), tmp_path / "tiny.onnx")
    study: Study = write_study(
        f'[variants]\nmethods = []\n[[variant]]\nmethod = "static"\nname = "it"\nformat = "{form}"\nweight = "QUInt8"\n'
        'skip_steps = ["float-large-biases"]\n'
    )
    section = study.model.model_copy(
        update={"path": tmp_path / "tiny.onnx", "calibration": "random", "evaluation": None, "dims": {}}
    )
    (_, variant) = build(study.model_copy(update={"model": section}), tmp_path / "out")
    assert any("is clipped: 'tiny'" in note and "or take QInt8 weights" in note for note in variant.notes), variant
