"""Each rule is what onnxruntime does, not what we believe."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.matmul_nbits_quantizer import (
    GPTQWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    KQuantWeightOnlyQuantConfig,
    RTNWeightOnlyQuantConfig,
)
from onnxruntime.quantization.quant_utils import QuantFormat
from onnxruntime.quantization.registry import IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry

from harness.quantize.matrix import REFERENCE
from harness.quantize.model.graph import is_quantized, nodes
from harness.quantize.planning.constraints import RULES, first_violation, impossible
from harness.quantize.recipe import Recipe, spelled
from harness.quantize.target_nodes import DYNAMIC_OPS, QOPERATOR_OPS, STATIC_OPS
from tests.models import make_model
from tests.quantize import one_op
from tests.quantize.conftest import brief

SHOWN: set[str] = set()
# tests/quantize/test_rules_of_options.py shows these.
ELSEWHERE = {"nbits-qdq-accuracy-level", "nbits-algorithm-bits", "hqq-accuracy-level"}
Test = Callable[..., None]


def shows(key: str) -> Callable[[Test], Test]:
    """Mark a test as the one that shows a rule on the real library."""
    SHOWN.add(key)
    return lambda test: test


def recipe(method: str = "static", **fields: Any) -> Recipe:
    """A recipe; static ones are QDQ U8S8 where nothing else is said."""
    usual: dict[str, Any] = {"activation": "QUInt8", "weight": "QInt8", "calibration": "MinMax", "format": "QDQ"}
    usual = usual if method == "static" else {"weight": "QInt8"} if method == "dynamic" else {}
    if method == "nbits":
        usual = {"format": "QDQ", "bits": 4, "block_size": 32, "accuracy_level": 0, "symmetric": True, "algorithm": "DEFAULT"}
    if "extra_options" in fields:
        fields["extra_options"] = spelled(fields["extra_options"])
    return Recipe.model_validate({"name": "r", "method": method, **usual, **fields})


def key_of(asked: Recipe, model: onnx.ModelProto | None = None) -> str | None:
    """The rule that is against a recipe."""
    rule = first_violation(asked, brief(model) if model else None)
    return rule.key if rule else None


def test_every_rule_is_shown_and_names_its_source() -> None:
    assert {rule.key for rule in RULES} == SHOWN | ELSEWHERE
    assert len({rule.key for rule in RULES}) == len(RULES)
    assert all(rule.source and rule.reason for rule in RULES)
    assert impossible(REFERENCE) is None


def test_a_reason_has_its_source() -> None:
    assert "check_static_quant_arguments" in (impossible(recipe(activation="QInt8", weight="QUInt8")) or "")


def test_the_lists_of_operators_are_the_library_s() -> None:
    assert {*IntegerOpsRegistry, "Gemm"} == DYNAMIC_OPS
    assert set(QLinearOpsRegistry) == QOPERATOR_OPS
    assert {*QLinearOpsRegistry, *QDQRegistry} == STATIC_OPS


@shows("s8-u8")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_signed_activations_with_unsigned_weights(tmp_path: Path, form: str) -> None:
    with pytest.raises(ValueError, match=r"activation_type=QuantType\.QInt8, weight_type=QuantType\.QUInt8"):
        one_op.static(one_op.conv(), tmp_path, "QInt8", "QUInt8", form=form)
    assert key_of(recipe(format=form, activation="QInt8", weight="QUInt8")) == "s8-u8"


@shows("qoperator-16")
@pytest.mark.parametrize(("activation", "weight"), [("QUInt16", "QInt8"), ("QUInt8", "QInt16"), ("QInt16", "QInt16")])
def test_sixteen_bits_in_qoperator(tmp_path: Path, activation: str, weight: str) -> None:
    with pytest.raises(ValueError, match=r"Only QuantFormat\.QDQ supports 16-bit"):
        one_op.static(one_op.conv(), tmp_path, activation, weight, form="QOperator")
    assert key_of(recipe(format="QOperator", activation=activation, weight=weight)) == "qoperator-16"
    assert key_of(recipe(activation=activation, weight=weight)) is None


@shows("activations-4")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_four_bit_activations(tmp_path: Path, form: str) -> None:
    path = one_op.static(one_op.conv(), tmp_path, "QUInt4", "QInt8", form=form)
    with pytest.raises(Exception, match="INVALID_GRAPH"):
        one_op.session(path)
    asked = recipe(format=form, activation="QUInt4")
    assert key_of(asked, one_op.conv()) == key_of(asked) == "activations-4"


def test_four_bit_activations_of_a_matmul_load_in_qdq(tmp_path: Path) -> None:
    one_op.session(one_op.static(one_op.matmul(), tmp_path, "QUInt4", "QInt8"))
    assert key_of(recipe(activation="QUInt4"), one_op.matmul()) is None


@shows("qoperator-4")
@pytest.mark.parametrize(("kind", "per_channel"), [("Conv", False), ("MatMul", False), ("MatMul", True), ("Gemm", True)])
def test_four_bits_in_qoperator(tmp_path: Path, kind: str, per_channel: bool) -> None:
    model = one_op.conv() if kind == "Conv" else one_op.matmul(kind=kind)
    with pytest.raises(RuntimeError, match="must be 8-bit before packing as 4-bit"):
        one_op.static(model, tmp_path, "QUInt8", "QInt4", form="QOperator", per_channel=per_channel)
    assert key_of(recipe(format="QOperator", weight="QInt4", per_channel=per_channel), model) == "qoperator-4"


def test_four_bits_per_channel_in_qoperator_pass_for_conv_alone(tmp_path: Path) -> None:
    one_op.session(one_op.static(one_op.conv(), tmp_path, "QUInt8", "QInt4", form="QOperator", per_channel=True))
    asked = recipe(format="QOperator", weight="QInt4", per_channel=True)
    assert key_of(asked, one_op.conv()) is None
    assert key_of(asked) == "qoperator-4"
    assert key_of(asked.model_copy(update={"op_types": ("Conv", "Relu")})) is None


@shows("dynamic-16")
@pytest.mark.parametrize("model", [one_op.conv(), one_op.matmul()], ids=["conv", "matmul"])
def test_sixteen_bits_dynamic(tmp_path: Path, model: onnx.ModelProto) -> None:
    path = one_op.dynamic(model, tmp_path, "QInt16")
    with pytest.raises(Exception, match="INVALID_GRAPH"):
        one_op.session(path)
    assert key_of(recipe("dynamic", weight="QInt16")) == "dynamic-16"


@shows("dynamic-4")
def test_four_bits_dynamic(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="must be 8-bit before packing as 4-bit"):
        one_op.dynamic(one_op.conv(), tmp_path, "QUInt4")
    assert key_of(recipe("dynamic", weight="QUInt4")) == "dynamic-4"


@shows("dynamic-ops")
def test_dynamic_without_an_integer_operator(cnn: Path, tmp_path: Path) -> None:
    path = one_op.dynamic(onnx.load(cnn), tmp_path, op_types_to_quantize=["Relu", "Add"])
    assert not any(map(is_quantized, one_op.kinds(path)))
    asked = recipe("dynamic", op_types=("Relu", "Add"))
    assert "IntegerOpsRegistry" in (impossible(asked) or "")
    assert impossible(asked.model_copy(update={"op_types": ("Relu", "Conv")})) is None


@shows("qoperator-ops")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_qoperator_without_a_quantized_operator(tmp_path: Path, form: str) -> None:
    model = one_op.conv(then=[helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=1)])
    path = one_op.static(model, tmp_path, form=form, op_types_to_quantize=["Slice", "ReduceMean"])
    found = sum(is_quantized(node.op_type) for node in nodes(onnx.load(path)))
    assert (found == 0) == (form == "QOperator")
    assert (key_of(recipe(format=form, op_types=("Slice", "ReduceMean"))) == "qoperator-ops") == (form == "QOperator")


@shows("block-size-rank")
def test_blocks_of_a_convolution(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="rank-2"):
        one_op.static(one_op.conv(), tmp_path, extra_options={"BlockSize": 16})
    asked = recipe(extra_options={"BlockSize": 16})
    assert key_of(asked, one_op.conv()) == "block-size-rank"
    assert key_of(asked, one_op.matmul()) is None


@shows("smooth-quant")
@pytest.mark.skipif(importlib.util.find_spec("neural_compressor") is not None, reason="neural_compressor is here")
def test_smooth_quant(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="neural-compressor is not correctly installed"):
        one_op.static(one_op.matmul(), tmp_path, extra_options={"SmoothQuant": True})
    assert key_of(recipe(extra_options={"SmoothQuant": True})) == "smooth-quant"
    # The dynamic tool does not read it.
    assert key_of(recipe("dynamic", extra_options={"SmoothQuant": True})) is None
    assert key_of(recipe(extra_options={"SmoothQuant": False})) is None


@shows("calib-max-intermediate-outputs")
def test_samples_that_are_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No data is collected"):
        one_op.static(one_op.conv(), tmp_path, extra_options={"CalibMaxIntermediateOutputs": 2})
    scales = []
    given = one_op.feeds(one_op.conv())[::-1]
    for most in (None, 3):  # of four samples, the first the largest
        options = {"CalibMaxIntermediateOutputs": most} if most else {}
        path = one_op.static(one_op.conv(), tmp_path, given=given, extra_options=options)
        scales.append(onnx.numpy_helper.to_array(one_op.stored(path)["x_scale"]))
    assert scales[1] < scales[0] / 2
    assert key_of(recipe(extra_options={"CalibMaxIntermediateOutputs": 3})) == "calib-max-intermediate-outputs"


@shows("calib-symmetric")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_symmetric_ranges_without_the_clamp(tmp_path: Path, form: str) -> None:
    model = one_op.conv(then=[helper.make_node("Relu", ["c"], ["y"], "relu")])
    feed = one_op.feeds(model)[-1]
    broken_path = one_op.static(model, tmp_path, form=form, extra_options={"CalibTensorRangeSymmetric": True})
    assert one_op.outputs(broken_path, feed).min() < -1
    mended = {"CalibTensorRangeSymmetric": True, "ActivationSymmetric": True}
    assert one_op.outputs(one_op.static(model, tmp_path, form=form, extra_options=mended), feed).min() == 0
    assert key_of(recipe(format=form, extra_options={"CalibTensorRangeSymmetric": True}), model) is None
    skipped: dict[str, Any] = {"format": form, "skip_steps": ("keep-clamps",)}
    asked = recipe(**skipped, extra_options={"CalibTensorRangeSymmetric": True})
    assert key_of(asked, model) == key_of(asked) == "calib-symmetric"
    assert key_of(asked, one_op.conv()) is None
    assert key_of(recipe(**skipped, extra_options=mended), model) is None
    kept = recipe(**skipped, extra_options={"CalibTensorRangeSymmetric": True, "QDQKeepRemovableActivations": True})
    assert (key_of(kept, model) is None) == (form == "QDQ")
    other_word = recipe(**skipped, calibration_options=spelled({"symmetric": True}))
    assert key_of(other_word, model) == "calib-symmetric"


@shows("float-8")
def test_eight_bit_floats(tmp_path: Path) -> None:
    kind = "QFLOAT8E4M3FN"
    with pytest.raises(ValueError, match="Only Distribution calibration method"):
        one_op.static(one_op.matmul(), tmp_path, kind, kind)
    with pytest.raises(ValueError, match="doesn't support data format"):
        one_op.static(one_op.matmul(), tmp_path, kind, "QInt8", calibrate_method=CalibrationMethod.Distribution)
    path = one_op.static(one_op.matmul(), tmp_path, kind, kind, calibrate_method=CalibrationMethod.Distribution)
    with one_op.fails("INVALID_GRAPH", before="1.32"):
        assert "MatMul" in one_op.optimized_kinds(path)
    overrides = {"TensorQuantOverrides": {"w": [{"quant_type": QuantType[kind]}]}}
    with pytest.raises(Exception, match="INVALID_GRAPH"):
        one_op.session(one_op.static(one_op.matmul(), tmp_path, extra_options=overrides))
    assert key_of(recipe(extra_options={"TensorQuantOverrides": {"w": [{"quant_type": kind}]}})) == "float-8"


@shows("nbits-qdq-algorithm")
@pytest.mark.parametrize("algorithm", ["RTN", "k_quant", "GPTQ", "HQQ"])
def test_algorithms_that_write_one_format(algorithm: str) -> None:
    configs = {
        "RTN": RTNWeightOnlyQuantConfig,
        "k_quant": KQuantWeightOnlyQuantConfig,
        "GPTQ": GPTQWeightOnlyQuantConfig,
        "HQQ": HQQWeightOnlyQuantConfig,
    }
    with pytest.raises(AssertionError, match="only supports QOperator format"):
        configs[algorithm](quant_format=QuantFormat.QDQ)
    assert key_of(recipe("nbits", algorithm=algorithm)) == "nbits-qdq-algorithm"


@shows("nbits-qdq-bits")
def test_other_bits_by_block_in_qdq(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="QDQ format only support 4 bits"):
        one_op.nbits(one_op.matmul(), tmp_path, form="QDQ", bits=2, block_size=32)
    assert one_op.kinds(one_op.nbits(one_op.matmul(), tmp_path, form="QDQ", bits=8, block_size=32)) == ["MatMul"]
    assert one_op.kinds(one_op.nbits(one_op.matmul(), tmp_path, form="QDQ", bits=4, block_size=32)) == [
        "DequantizeLinear",
        "MatMul",
    ]
    assert [key_of(recipe("nbits", bits=bits)) for bits in (2, 4, 8)] == ["nbits-qdq-bits", None, "nbits-qdq-bits"]


@shows("nbits-no-matrix")
def test_blocks_of_a_model_without_a_matrix(tmp_path: Path) -> None:
    assert one_op.kinds(one_op.nbits(one_op.conv(), tmp_path, bits=4, block_size=32)) == ["Conv"]
    for form in ("QDQ", "QOperator"):
        asked = recipe("nbits", format=form)
        assert key_of(asked, one_op.conv()) == "nbits-no-matrix"
        assert key_of(asked, one_op.matmul()) is None
        assert first_violation(asked, replace(brief(one_op.conv()), nested={"MatMul": 1})) is None


@shows("nbits-gemm")
@pytest.mark.parametrize("attributes", [{"transA": 1}, {"alpha": 2.0}, {"beta": 2.0}], ids=str)
def test_blocks_of_a_gemm_that_is_no_matmul(tmp_path: Path, attributes: dict[str, Any]) -> None:
    weights = {"w": np.ones((8, 5), np.float32), "c": np.ones(5, np.float32)}
    gemm = helper.make_node("Gemm", ["x", "w", "c"], ["y"], "head", **attributes)
    rows: dict[str, Any] = {"x": [8, 6]} if "transA" in attributes else {"x": [6, 8]}
    model = make_model([gemm], rows, {"y": [6, 5]}, weights)
    assert one_op.kinds(one_op.nbits(model, tmp_path, bits=4, block_size=32)) == ["Gemm"]
    skipping = recipe("nbits", skip_steps=("fold-gemm",))
    rule = first_violation(skipping, brief(model))
    assert rule is not None
    assert rule.key == "nbits-gemm"
    assert "only Gemm 'head' with alpha, beta or transA" in rule.message(brief(model))
    assert key_of(recipe("nbits"), model) is None
    computed = make_model([gemm], {**rows, "w": [8, 5]}, {"y": [6, 5]}, {"c": weights["c"]})
    assert key_of(recipe("nbits"), computed) == "nbits-gemm"


@shows("nbits-block-size")
def test_blocks_that_matmulnbits_takes(tmp_path: Path) -> None:
    for block in (16, 24, 48, 256, 512):
        asked = recipe("nbits", format="QOperator", block_size=block)
        if block in {16, 256}:
            one_op.session(one_op.nbits(one_op.matmul(), tmp_path, bits=4, block_size=block))
            assert key_of(asked) is None
        else:
            with pytest.raises(RuntimeError, match="MlasQuantizeBlockwise"):
                one_op.nbits(one_op.matmul(), tmp_path, bits=4, block_size=block)
            assert key_of(asked) == "nbits-block-size"
    one_op.session(one_op.nbits(one_op.matmul(), tmp_path, form="QDQ", bits=4, block_size=48))
    assert key_of(recipe("nbits", block_size=48)) is None


@shows("nbits-odd-blocks")
@pytest.mark.parametrize(("rows", "fits"), [(32, False), (64, True), (96, False)])
def test_zero_points_of_odd_blocks(tmp_path: Path, rows: int, fits: bool) -> None:
    model = one_op.matmul(rows=rows)
    asked = recipe("nbits", format="QOperator", algorithm="RTN", symmetric=False)
    if fits:
        one_op.nbits(one_op.matmul(rows=rows), tmp_path, rtn=True, block_size=32, is_symmetric=False)
    else:
        with pytest.raises(ValueError, match="cannot reshape"):
            one_op.nbits(one_op.matmul(rows=rows), tmp_path, rtn=True, block_size=32, is_symmetric=False)
    assert (key_of(asked, model) is None) == fits
    assert key_of(asked.model_copy(update={"symmetric": True}), model) is None
    one_op.nbits(model, tmp_path, rtn=True, block_size=32, is_symmetric=True)
    # A Gemm that takes its weights transposed has them turned first.
    known = brief(one_op.matmul(rows=rows))
    node = next(each for each in known.nodes if each.weights)
    (weight,) = node.weights
    for dims, possible in ((weight.dims[::-1], fits), ((), True)):
        gemm = replace(node, kind="Gemm", turned=True, constants={1: replace(weight, dims=dims)})
        assert (first_violation(asked, replace(known, nodes=(gemm,))) is None) == possible


@shows("hqq-torch")
@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is here")
def test_hqq_without_torch(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="torch"):
        one_op.nbits_hqq(one_op.matmul(), tmp_path)
    assert key_of(recipe("nbits", format="QOperator", algorithm="HQQ")) == "hqq-torch"


def test_a_plain_recipe_meets_no_rule() -> None:
    assert [rule.key for rule in RULES if rule.applies(recipe(), None)] == []
