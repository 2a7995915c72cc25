from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.build import build
from harness.quantize.recipe import Recipe
from harness.quantize.verify import precision
from harness.quantize.verify.precision import Blocks
from harness.study import study as studies
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.quantize.recipe import Variant
    from harness.study.study import Study

    Make = Callable[[str], dict[str, Variant]]


@pytest.fixture
def make(write_study: Callable[[str], Study], tmp_path: Path) -> Make:
    return lambda text: {each.name: each for each in build(write_study(text), tmp_path / "out")}


def held(variant: Variant) -> set[tuple[str, str, str]]:
    assert variant.path is not None, variant.reason
    return set(map(tuple, precision.read(onnx.load(variant.path, load_external_data=False)).weights))  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", ["QInt8", "QUInt8", "QInt16", "QUInt16", "QInt4", "QUInt4"])
@pytest.mark.parametrize("per_channel", ["false", "true"])
def test_qdq_holds_what_was_asked(weight: str, per_channel: str, make: Make) -> None:
    found = make(
        f'[variants]\nmethods = ["static"]\nformats = ["QDQ"]\nactivations = ["QUInt8", "QUInt16"]\nweights = ["{weight}"]\n'
        f"per_channel = [{per_channel}]\n"
    )
    del found["fp32"]
    for variant in found.values():
        assert {kind for _, kind, _ in held(variant)} == {weight}
        # Of Gemm, onnxruntime quantizes per channel too.
        assert {each for _, _, each in held(variant)} == {"channel" if per_channel == "true" else "tensor"}
        assert not [note for note in variant.notes if "asked" in note]
        assert set(precision.read(onnx.load(variant.path or "")).activations) == {variant.recipe.activation}


def test_what_is_not_as_asked_is_told(make: Make) -> None:
    found = make(
        '[variants]\nmethods = ["dynamic", "static"]\nformats = ["QOperator"]\nactivations = ["QUInt8"]\nweights = ["QInt8", "QUInt8"]\nper_channel = [true]\n'
    )
    assert found["dynamic-S8-pc"].notes == ("asked per channel, got per tensor in 2 of 3 (ConvInteger)",)
    assert held(found["dynamic-S8-pc"]) == {("ConvInteger", "QInt8", "tensor"), ("MatMulInteger", "QInt8", "channel")}
    assert found["static-QOperator-U8S8-pc"].notes == ()
    assert found["static-QOperator-U8U8-pc"].notes == ("asked QUInt8 weights, got QInt8 in 2 of 3 (QLinearConv)",)


def test_weights_that_are_packed_at_each_start_and_in_blocks(make: Make) -> None:
    found = make(
        '[variants]\nmethods = []\n[[variant]]\nmethod = "static"\nname = "pairs"\nextra_options = { AddQDQPairToWeight = true }\n'
        '[[variant]]\nmethod = "static"\nname = "blocks"\nop_types = ["Gemm"]\nextra_options = { BlockSize = 2, QuantizeBias = false }\n'
    )
    assert held(found["pairs"]) == {("Conv", "QInt8", "tensor"), ("Gemm", "QInt8", "tensor")}
    assert held(found["blocks"]) == {("Gemm", "QInt8", "block")}
    assert not [note for each in found.values() for note in each.notes if "asked" in note]


def test_another_label(make: Make) -> None:
    (_, variant) = make('[variants]\nmethods = []\n[[variant]]\nmethod = "static"\nname = "it"\n').values()
    model = onnx.load(variant.path or "")
    recipe = variant.recipe.model_copy(update={"activation": "QInt8", "weight": "QInt4", "per_channel": True})
    assert precision.differences(recipe, model) == [
        "asked QInt4 weights, got QInt8 in 3 of 3 (Conv, Gemm)",
        "asked per channel, got per tensor in 3 of 3 (Conv, Gemm)",
        "asked QInt8 activations, got QUInt8 in 7 of 7",
    ]


def test_blocks(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)}
    onnx.save(
        make_model([helper.make_node("MatMul", ["x", "w"], ["y"], "m")], {"x": [2, 32]}, {"y": [2, 8]}, weights),
        tmp_path / "m.onnx",
    )
    text = 'name = "t"\n[model]\npath = "m.onnx"\n[variants]\nmethods = ["nbits"]\nbits = [4, 8]\naccuracy_levels = [0, 4]\n'
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    found = {each.name: each for each in build(studies.load(tmp_path), tmp_path / "out")}
    read = {name: dict(precision.read(onnx.load(each.path)).blocks) for name, each in found.items() if each.path}
    assert read == {
        "fp32": {},
        "nbits-4b32": {Blocks(4, 32, None): 1},
        "nbits-4b32-QOperator": {Blocks(4, 32, 0): 1},
        "nbits-4b32-QOperator-acc4": {Blocks(4, 32, 4): 1},
        "nbits-8b32-QOperator": {Blocks(8, 32, 0): 1},
        "nbits-8b32-QOperator-acc4": {Blocks(8, 32, 4): 1},
    }
    other = Recipe(name="r", method="nbits", format="QOperator", bits=4, block_size=64, accuracy_level=1)
    assert precision.differences_of_blocks(other, onnx.load(found["nbits-8b32-QOperator-acc4"].path or "")) == [
        "asked 4 bits in blocks of 64 at accuracy level 1, got 8 bits in blocks of 32 at accuracy level 4 in 1 of 1"
    ]
    assert precision.differences_of_blocks(other, onnx.load(found["nbits-4b32"].path or "")) == [
        "asked 4 bits in blocks of 64, got 4 bits in blocks of 32 in 1 of 1"
    ]
