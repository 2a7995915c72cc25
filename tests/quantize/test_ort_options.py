from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.quantize import ort_options
from harness.quantize.build import build
from harness.quantize.model.graph import nodes
from harness.quantize.recipe import Recipe, spelled
from harness.study import study as studies
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.recipe import Variant
    from harness.study.study import Study

    Make = Callable[[str], Variant]

KINDS = {"QUInt8": TensorProto.UINT8, "QUInt16": TensorProto.UINT16, "QInt8": TensorProto.INT8, "QInt4": TensorProto.INT4}


@pytest.fixture
def make(write_study: Callable[[str], Study], tmp_path: Path) -> Make:
    """Build the one variant of a table of extra options, as TOML has it."""

    def build_variant(text: str) -> Variant:
        spec = text if "[[variant]]" in text else f'[[variant]]\nmethod = "static"\nname = "it"\nextra_options = {text}\n'
        return build(write_study(f"[variants]\nmethods = []\n{spec}"), tmp_path / "out")[-1]

    return build_variant


def load(variant: Variant) -> ModelProto:
    assert variant.path is not None, variant.reason
    return onnx.load(variant.path)


def scales(variant: Variant) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scale and zero point of each tensor."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in load(variant).graph.initializer}
    return {
        name.removesuffix("_scale"): (stored[name], stored[name.replace("_scale", "_zero_point")])
        for name in stored
        if name.endswith("_scale")
    }


def test_options_reach_the_tool(make: Make) -> None:
    def zeros(text: str) -> set[int]:
        return {int(zero) for _, zero in scales(make(text)).values() if zero.dtype == np.uint8}

    def kinds(text: str) -> list[str]:
        return [node.op_type for node in load(make(text)).graph.node]

    assert zeros("{ ActivationSymmetric = true }") == {128}
    assert zeros("{}") > {0}
    assert kinds("{ QDQKeepRemovableActivations = true }").count("Relu") == 1
    assert kinds("{}").count("Relu") == 0
    assert {node.domain for node in load(make("{ UseQDQContribOps = true }")).graph.node} == {"", "com.microsoft"}


def test_tensors_of_their_own(make: Make) -> None:
    variant = make(
        """{ TensorQuantOverrides = {
  c1 = { quant_type = "QUInt16" },
  p = { scale = 0.25, zero_point = 7 },
  w2 = [{ quant_type = "QInt4", axis = 0 }],
  w3 = { rmin = -8.0, rmax = 8.0 },
  r1 = { quant_type = "QUInt8", convert = { quant_type = "QUInt16", recv_nodes = ["shortcut"] } }
} }""".replace("\n", "")
    )
    found = scales(variant)
    assert found["r1"][1].dtype == np.uint8
    assert [float(value) for value in found["p"]] == [0.25, 7.0]
    assert found["w3"][0] == np.float32(8 / 127)
    weight = next(tensor for tensor in load(variant).graph.initializer if tensor.name == "w2_quantized")
    assert (weight.data_type, found["w2"][0].shape) == (TensorProto.INT4, (4,))
    assert any(zero.dtype == np.uint16 for _, zero in found.values())
    assert "opset 17 was raised to 21" in variant.notes


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('{ r11 = { quant_type = "QInt8" } }', "the prepared model has no tensor 'r11'; did you mean 'r1'?"),
        ("{ r1 = { scale = 0.1, zero_point = 300 } }", "a zero_point of QUInt8 lies between 0 and 255, not at 300"),
        (
            '{ r1 = { convert = { quant_type = "QInt16", recv_nodes = ["shortcat"] } } }',
            "TensorQuantOverrides of 'r1': the prepared model has no node 'shortcat'; did you mean 'shortcut'?",
        ),
    ],
)
def test_tensors_that_are_not_there(make: Make, table: str, words: str) -> None:
    variant = make(f"{{ TensorQuantOverrides = {table} }}")
    assert variant.state == "failed"
    assert words in (variant.reason or "")


def test_options_that_change_nothing_are_told(make: Make) -> None:
    assert make("{ MatMulConstBOnly = true, CalibStridedMinMax = 2 }").notes == (
        "MatMulConstBOnly: without effect in QDQ",
        "CalibStridedMinMax: without effect, as samples are always taken one at a time",
    )
    dynamic = make('[[variant]]\nmethod = "dynamic"\nextra_options = { QuantizeBias = false, DefaultTensorType = "FLOAT" }\n')
    assert dynamic.notes == ("QuantizeBias: without effect in dynamic",)


def test_what_is_said_of_the_calibration() -> None:
    extra = {"CalibPercentile": 99.0, "CalibMovingAverage": True, "WeightSymmetric": True}
    recipe = Recipe(name="r", method="static", extra_options=spelled(extra), calibration_options=spelled({"percentile": 99.9}))
    assert ort_options.of_calibration(recipe) == {"percentile": 99.9, "moving_average": True}


def test_ranges_that_nothing_clamps_are_told(make: Make) -> None:
    spec = '[[variant]]\nmethod = "static"\ncalibration = "Distribution"\n'
    skipped = 'skip_steps = ["keep-clamps"]\n'
    assert "Distribution gives ranges on both sides of the mean" in make(spec + skipped).notes[0]
    assert "in the model, because the quantized range does not clamp in the same way" in make(spec).notes[0]
    assert make(spec + "extra_options = { ActivationSymmetric = true }\n").notes == ()


def test_smooth_quant_where_its_package_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """SmoothQuant scales a model and is calibrated by itself: its data are copied, and the shared ranges left alone."""
    seen: list[Any] = []

    class ORTSmoothQuant:
        def __init__(self, model: Any, data: Any, _: bool) -> None:
            self.path, self.count = model, len(list(data))

        def transform(self, alpha: float, folding: bool) -> Any:
            seen.append((self.count, alpha, folding))
            self.model = onnx.load(self.path)
            return self

        def save(self, path: str) -> None:
            onnx.save(self.model, path)

    name = "neural_compressor.adaptor.ox_utils.smooth_quant"
    for depth in range(1, 5):
        module = ModuleType(".".join(name.split(".")[:depth]))
        module.__dict__.update(__path__=[], __spec__=type("Spec", (), {"name": module.__name__})(), ORTSmoothQuant=ORTSmoothQuant)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    variant = make("{ SmoothQuant = true, SmoothQuantAlpha = 0.7 }")
    assert variant.state == "made", variant.reason
    assert seen == [(6, 0.7, True)]


def test_bodies_are_quantized_dynamically_if_asked(tmp_path: Path) -> None:
    """The tool forgets to import its own operator set when only a body uses it."""
    weight = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    lstm = {"w": weight[None, :, :4], "r": weight[None, :, :4]}
    body = [helper.make_node("LSTM", ["x", "w", "r"], ["", "t"], "lstm", hidden_size=4)]
    outputs = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4])] for name in ("t", "e")]
    weights = [numpy_helper.from_array(value, name) for name, value in lstm.items()]
    then = helper.make_graph(body, "then", [], outputs[0], weights)
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["e"], "same")], "else", [], outputs[1])
    layers = [
        helper.make_node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], "cast", to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other),
    ]
    onnx.save(make_model(layers, {"x": [1, 1, 4]}, {"y": [1, 1, 4]}), tmp_path / "m.onnx")
    spec = '[[variant]]\nmethod = "dynamic"\nname = '
    text = f'name = "t"\n[model]\npath = "m.onnx"\n[variants]\nmethods = []\n{spec}"usual"\n{spec}"bodies"\nextra_options = {{ EnableSubgraph = true }}\n'
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    found = {each.name: each for each in build(studies.load(tmp_path), tmp_path / "out")}
    assert [
        note for note in found["usual"].notes if note.startswith("nothing was quantized: ") and "EnableSubgraph = true" in note
    ]
    assert "DynamicQuantizeLSTM" in {node.op_type for node in nodes(load(found["bodies"]))}


def test_calibration_options_that_a_method_does_not_read_are_told(write_study: Callable[[str], Study], tmp_path: Path) -> None:
    study = write_study('[variants]\nmethods = []\n[[variant]]\nmethod = "static"\ncalibration_options = { percentile = 99.0 }\n')
    notes = build(study, tmp_path / "out")[1].notes
    assert any(note.startswith("calibration_options: MinMax does not read percentile; it reads symmetric") for note in notes)
