"""Recipes that give the same file, shown on onnxruntime: equal canonical hashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationMethod

from harness.quantize.model.canonical import canonical_hash
from harness.quantize.planning.equivalence import EQUIVALENCES, twins
from harness.quantize.recipe import Recipe
from harness.study.ort_options import BOOLEAN, OPTIONS, QDQ
from tests.quantize import one_op
from tests.quantize.conftest import brief
from tests.quantize.planning.test_constraints import Test, recipe

SHOWN: set[str] = set()
QDQ_SWITCHES = [name for name, option in OPTIONS.items() if option.of == {QDQ} and option.kind == BOOLEAN]


def shows(key: str) -> Callable[[Test], Test]:
    """Mark a test as the one that shows a rule on the real library."""
    SHOWN.add(key)
    return lambda test: test


def are_twins(one: Recipe, other: Recipe, model: onnx.ModelProto) -> str | None:
    """The rule by which two recipes give one file."""
    found = twins([one.model_copy(update={"name": "a"}), other.model_copy(update={"name": "b"})], brief(model))
    assert set(found) <= {"b"}
    return found["b"][1].key if found else None


def static(folder: Path, model: onnx.ModelProto, **options: Any) -> str:
    return canonical_hash(one_op.static(model, folder, **options))


def dynamic(folder: Path, model: onnx.ModelProto, **options: Any) -> str:
    return canonical_hash(one_op.dynamic(model, folder, **options))


def clamped() -> onnx.ModelProto:
    return one_op.conv(then=[helper.make_node("Relu", ["c"], ["y"], "clamp")])


def test_every_rule_is_shown_and_names_its_source() -> None:
    assert {rule.key for rule in EQUIVALENCES} == SHOWN
    assert all(rule.source and rule.reason for rule in EQUIVALENCES)


def test_other_recipes_give_other_files(tmp_path: Path) -> None:
    assert are_twins(recipe(), recipe(weight="QUInt8"), one_op.conv()) is None
    assert are_twins(recipe(), recipe(per_channel=True), one_op.conv()) is None
    assert static(tmp_path, one_op.conv()) != static(tmp_path, one_op.conv(), per_channel=True)


@shows("entropy-is-minmax")
def test_entropy(tmp_path: Path) -> None:
    model = clamped()
    assert static(tmp_path, model) == static(tmp_path, model, calibrate_method=CalibrationMethod.Entropy)
    assert are_twins(recipe(), recipe(calibration="Entropy"), model) == "entropy-is-minmax"
    assert are_twins(recipe(), recipe(calibration="Percentile"), model) is None


@shows("dynamic-channels-of-conv")
def test_dynamic_convolutions(tmp_path: Path) -> None:
    assert dynamic(tmp_path, clamped()) == dynamic(tmp_path, clamped(), per_channel=True)
    assert are_twins(recipe("dynamic"), recipe("dynamic", per_channel=True), clamped()) == "dynamic-channels-of-conv"
    assert dynamic(tmp_path, one_op.matmul()) != dynamic(tmp_path, one_op.matmul(), per_channel=True)
    assert are_twins(recipe("dynamic"), recipe("dynamic", per_channel=True), one_op.matmul()) is None


@shows("qoperator-channels-of-conv")
@pytest.mark.parametrize("weight", ["QUInt8", "QInt4", "QUInt4"])
def test_convolutions_per_channel_in_qoperator(tmp_path: Path, weight: str) -> None:
    options: dict[str, Any] = {"form": "QOperator", "per_channel": True}
    assert static(tmp_path, clamped(), weight="QInt8", **options) == static(tmp_path, clamped(), weight=weight, **options)
    signed, other = (recipe(format="QOperator", per_channel=True, weight=kind) for kind in ("QInt8", weight))
    assert are_twins(signed, other, clamped()) == "qoperator-channels-of-conv"
    assert are_twins(signed, other, one_op.matmul()) is None


@shows("absent-op-types")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_op_types_that_are_not_there(tmp_path: Path, form: str) -> None:
    model = clamped()
    named = [
        static(tmp_path, model, form=form, op_types_to_quantize=kinds) for kinds in (["Conv", "Relu"], ["Conv", "Relu", "Erf"])
    ]
    assert named[0] == named[1] == static(tmp_path, model, form=form)
    asked = [recipe(format=form, op_types=kinds) for kinds in (("Conv", "Relu"), ("Conv", "Relu", "Erf"), ("Conv",))]
    assert are_twins(asked[0], asked[1], model) == "absent-op-types"
    assert are_twins(asked[0], asked[2], model) is None
    assert static(tmp_path, model, form=form, op_types_to_quantize=["Conv"]) != named[0]


def test_op_types_that_the_preparation_may_bring_in_count_as_there() -> None:
    asked = [recipe(op_types=kinds) for kinds in (("MatMul",), ("MatMul", "Gemm"))]
    assert are_twins(asked[0], asked[1], one_op.matmul()) is None


@shows("idle-options")
@pytest.mark.parametrize("option", QDQ_SWITCHES)
def test_options_that_are_not_read(tmp_path: Path, option: str) -> None:
    extra = {option: option != "QuantizeBias"}
    model = clamped()
    assert static(tmp_path, model, form="QOperator") == static(tmp_path, model, form="QOperator", extra_options=extra)
    asked = recipe(format="QOperator")
    assert are_twins(asked, recipe(format="QOperator", extra_options=extra), model) == "idle-options"
    assert dynamic(tmp_path, model) == dynamic(tmp_path, model, extra_options=dict(extra))
    assert are_twins(recipe("dynamic"), recipe("dynamic", extra_options=extra), model) == "idle-options"
    assert are_twins(recipe(), recipe(extra_options=extra), model) is None
