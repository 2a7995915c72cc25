"""What is made other than its recipe says, shown on onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod

from harness.quantize.model.canonical import canonical_hash
from harness.quantize.model.graph import is_quantized, opset_of
from harness.quantize.planning.caveats import CAVEATS, NEVER_INTEGER, caveats, made_opset
from harness.quantize.recipe import Recipe, spelled
from harness.quantize.rewriting import patched
from tests.models import make_model
from tests.quantize import one_op
from tests.quantize.conftest import brief
from tests.quantize.planning.test_constraints import Test, recipe

SHOWN: set[str] = set()


def shows(key: str) -> Callable[[Test], Test]:
    """Mark a test as the one that shows a rule on the real library."""
    SHOWN.add(key)
    return lambda test: test


def told(asked: Recipe, model: onnx.ModelProto | None = None) -> set[str]:
    """The rules that apply."""
    return {rule.key for rule in caveats(asked, brief(model) if model else None)}


def clamped(kind: str = "Relu") -> onnx.ModelProto:
    """A convolution and Relu."""
    return one_op.conv(then=[helper.make_node(kind, ["c"], ["y"], "clamp")])


def test_every_rule_is_shown_and_names_its_source() -> None:
    assert {rule.key for rule in CAVEATS} == SHOWN
    assert len({rule.key for rule in CAVEATS}) == len(CAVEATS)
    assert all(rule.source and rule.reason for rule in CAVEATS)


def test_a_plain_recipe_has_none() -> None:
    assert told(recipe(), one_op.conv()) == set()


@shows("qoperator-per-channel")
def test_weights_of_a_convolution_per_channel(tmp_path: Path) -> None:
    for weight in ("QUInt8", "QInt4", "QUInt4"):
        path = one_op.static(one_op.conv(), tmp_path, weight=weight, form="QOperator", per_channel=True)
        assert one_op.stored(path)["w_quantized"].data_type == TensorProto.INT8
        assert told(recipe(format="QOperator", weight=weight, per_channel=True), one_op.conv()) == {"qoperator-per-channel"}
    assert told(recipe(format="QOperator", weight="QUInt8"), one_op.conv()) == set()


@shows("dynamic-per-channel-conv")
def test_dynamic_convolution_has_one_scale(tmp_path: Path) -> None:
    path = one_op.dynamic(one_op.conv(), tmp_path, per_channel=True)
    assert list(one_op.stored(path)["w_scale"].dims) == []
    assert told(recipe("dynamic", per_channel=True), one_op.conv()) == {"dynamic-per-channel-conv"}
    assert told(recipe("dynamic", per_channel=True), one_op.matmul()) == set()


@shows("per-channel-unfit")
def test_weights_that_have_one_scale(tmp_path: Path) -> None:
    experts = make_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "experts")],
        {"x": [2, 4, 8]},
        {"y": [2, 4, 6]},
        {"w": np.ones((2, 8, 6), "f")},
    )
    for asked in (recipe(per_channel=True), recipe(per_channel=True, format="QOperator")):
        path = one_op.static(experts, tmp_path, form=asked.format or "", per_channel=True)
        # Since 1.32 QDQ computes it in float32.
        with one_op.fails("IsBQuantParamSupported", before="1.32" if asked.format == "QDQ" else "9"):
            one_op.outputs(path, one_op.feeds(experts)[0])
        with patched(asked):
            path = one_op.static(experts, tmp_path, form=asked.format or "", per_channel=True)
        one_op.outputs(path, one_op.feeds(experts)[0])
        assert told(asked, experts) == {"per-channel-unfit"}
    assert told(recipe(per_channel=True), one_op.matmul()) == set()
    grouped = make_model(
        [helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], "up", group=2)],
        {"x": [1, 4, 6, 6]},
        {"y": [None] * 4},
        {"w": np.ones((4, 2, 3, 3), "f"), "b": np.ones(4, "f")},
    )
    with pytest.raises(ValueError, match="could not be broadcast"):
        one_op.static(grouped, tmp_path, per_channel=True)
    assert told(recipe(per_channel=True), grouped) == {"per-channel-unfit"}


@shows("computed-bias")
def test_a_bias_that_is_computed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], "mean", axes=[0, 2, 3], keepdims=0),
        helper.make_node("Conv", ["x", "w", "m"], ["y"], "conv"),
    ]
    model = make_model(nodes, {"x": [1, 4, 6, 6]}, {"y": [None] * 4}, {"w": np.ones((4, 4, 3, 3), "f")})
    with pytest.raises(AttributeError):
        one_op.static(model, tmp_path, form="QOperator")
    assert told(recipe(format="QOperator"), model) == {"computed-bias", "nothing"}
    one_op.static(model, tmp_path)
    assert told(recipe(), model) == set()
    assert told(recipe(format="QOperator"), one_op.conv()) == set()


@shows("block-biases")
def test_a_bias_beside_blocks(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "fc")
    weights = {"w": np.ones((32, 16), "f"), "b": np.ones(16, "f")}
    model = make_model([node], {"x": [4, 32]}, {"y": [4, 16]}, weights, opset=21)
    asked = recipe(activation="QUInt16", extra_options={"BlockSize": 16})
    with pytest.raises(ValueError, match="cannot reshape array"):
        one_op.static(model, tmp_path, activation="QUInt16", extra_options={"BlockSize": 16})
    with patched(asked):
        one_op.static(model, tmp_path, activation="QUInt16", extra_options={"BlockSize": 16})
    assert "block-biases" in told(asked, model)
    assert "block-biases" not in told(asked, one_op.matmul(kind="Gemm", opset=21))


@shows("entropy-is-minmax")
def test_entropy_finds_the_ranges_of_minmax(tmp_path: Path) -> None:
    found = [
        canonical_hash(one_op.static(clamped(), tmp_path, calibrate_method=CalibrationMethod[method]))
        for method in ("MinMax", "Entropy", "Percentile")
    ]
    assert found[0] == found[1] != found[2]
    assert told(recipe(calibration="Entropy")) == {"entropy-is-minmax"}
    assert told(recipe(calibration="Entropy", calibration_options=spelled({"num_bins": 2048}))) == set()


@shows("moving-average")
def test_a_moving_average_forgets(tmp_path: Path) -> None:
    scales = [
        float(numpy_helper.to_array(one_op.stored(path)["x_scale"]))
        for options in ({}, {"CalibMovingAverage": True})
        for path in [one_op.static(one_op.conv(), tmp_path, extra_options=options)]
    ]
    assert scales[1] < 0.7 * scales[0]
    assert told(recipe(extra_options={"CalibMovingAverage": True})) == {"moving-average"}


@shows("opset-raised")
def test_the_opset_is_raised(tmp_path: Path) -> None:
    for asked, options in (
        (recipe(activation="QUInt16"), {"activation": "QUInt16"}),
        (recipe(weight="QInt16"), {"weight": "QInt16"}),
        (recipe(extra_options={"BlockSize": 16}), {"extra_options": {"BlockSize": 16}}),
    ):
        made = onnx.load(one_op.static(one_op.matmul(), tmp_path, **options))
        assert opset_of(made) == made_opset(asked, brief(one_op.matmul())) == 21
        assert "opset-raised" in told(asked, one_op.matmul())
    made = onnx.load(one_op.nbits(one_op.matmul(), tmp_path, form="QDQ", bits=4, block_size=32))
    assert opset_of(made) == made_opset(recipe("nbits"), brief(one_op.matmul())) == 21
    # Four bits of static quantization take operators of another domain instead.
    assert opset_of(onnx.load(one_op.static(one_op.conv(), tmp_path, weight="QInt4"))) == 17
    assert made_opset(recipe(weight="QInt4"), brief(one_op.conv())) == 17


def test_per_channel_needs_opset_13(tmp_path: Path) -> None:
    old = one_op.conv(opset=12)
    with pytest.raises(Exception, match="Unrecognized attribute: axis"):
        one_op.session(one_op.static(old, tmp_path, per_channel=True))
    assert made_opset(recipe(per_channel=True), brief(old)) == 13
    assert made_opset(recipe(), brief(old)) == 12


@shows("float-kernels")
@pytest.mark.parametrize(("activation", "weight"), [("QUInt16", "QInt8"), ("QUInt8", "QInt4")])
def test_wide_and_narrow_types_run_in_float(tmp_path: Path, activation: str, weight: str) -> None:
    found = one_op.optimized_kinds(one_op.static(one_op.conv(), tmp_path, activation, weight))
    assert "QLinearConv" not in found
    assert any("Conv" in kind for kind in found)
    assert "float-kernels" in told(recipe(activation=activation, weight=weight))
    assert "QLinearConv" in one_op.optimized_kinds(one_op.static(one_op.conv(), tmp_path))


@shows("too-early")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_maxpool_of_an_early_opset(tmp_path: Path, form: str) -> None:
    for opset, pairs in ((11, 0), (13, 1)):
        model = one_op.conv(opset=opset, then=[helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2])])
        made = onnx.load(one_op.static(model, tmp_path, form=form))
        pool = next(node for node in made.graph.node if node.op_type == "MaxPool")
        integer = list(pool.output) != ["y"]  # what follows it makes the output float again
        assert integer == bool(pairs)
        assert ("too-early" in told(recipe(format=form), model)) == (not pairs)


@shows("qoperator-cubic")
def test_cubic_resize_in_qoperator(tmp_path: Path) -> None:
    for mode, fails in (("cubic", True), ("nearest", False)):
        model = one_op.conv(then=[helper.make_node("Resize", ["c", "", "s"], ["y"], mode=mode)])
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s"))
        path = one_op.static(model, tmp_path, form="QOperator")
        feed = one_op.feeds(model)[0]
        if fails:
            with pytest.raises(Exception, match="Resize node"):
                one_op.outputs(path, feed)
        else:
            one_op.outputs(path, feed)
        assert (told(recipe(format="QOperator"), model) == {"qoperator-cubic"}) == fails


@shows("qoperator-where")
def test_where_in_qoperator(tmp_path: Path) -> None:
    model = one_op.conv(then=[helper.make_node("Where", ["k", "c", "c"], ["y"])])
    model.graph.initializer.append(numpy_helper.from_array(np.array([True]), "k"))
    for named in (None, ["Conv"]):
        with pytest.raises(RuntimeError, match="Invalid model with unknown initializers/tensors"):
            one_op.static(model, tmp_path, form="QOperator", op_types_to_quantize=named)
        with patched(recipe(format="QOperator")):
            path = one_op.static(model, tmp_path, form="QOperator", op_types_to_quantize=named)
        assert one_op.kinds(path)[-2:] == ["DequantizeLinear", "Where"]
    assert told(recipe(format="QOperator"), model) == {"qoperator-where"}
    forced = {"ForceQuantizeNoInputCheck": True}
    assert "QLinearWhere" in one_op.kinds(one_op.static(model, tmp_path, form="QOperator", extra_options=forced))
    assert told(recipe(format="QOperator", extra_options=forced), model) == set()


def _wrapped(kind: str) -> onnx.ModelProto:
    """A convolution, and an operator that QDQ gives a generic pair."""
    weights: dict[str, Any] = {
        "Sub": [np.ones(1, "f")],
        "Div": [np.full(1, 2, "f")],
        "PRelu": [np.full((4, 1, 1), 0.1, "f")],
        "ConvTranspose": [np.ones((4, 4, 1, 1), "f")],
        "BatchNormalization": [np.ones(4, "f")] * 4,
        "InstanceNormalization": [np.ones(4, "f")] * 2,
        "LayerNormalization": [np.ones(6, "f")],
        "CumSum": [np.array(2)],
        "TopK": [np.array([2])],
        "Pad": [np.array([0, 0, 1, 1, 0, 0, 1, 1])],
    }
    names = [f"o{number}" for number in range(len(weights.get(kind, [])))]
    outputs = ["y", "indices"] if kind == "TopK" else ["y"]
    attributes: dict[str, Any] = {"axes": [2, 3]} if kind == "ReduceMean" else {}
    model = one_op.conv(then=[helper.make_node(kind, ["c", *names], outputs, "wrapped", **attributes)])
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in zip(names, weights.get(kind, []), strict=True)
    )
    return model


@shows("never-integer")
@pytest.mark.parametrize("kind", sorted(NEVER_INTEGER - {"GRU", "LSTM"}))
def test_operators_without_an_integer_kernel(tmp_path: Path, kind: str) -> None:
    # Only this one is quantized: else BatchNormalization would become a part of the convolution.
    path = one_op.static(_wrapped(kind), tmp_path, op_types_to_quantize=["Conv", kind])
    assert any(map(is_quantized, one_op.kinds(path)))
    found = one_op.optimized_kinds(path)
    assert not any(other.startswith("QLinear") and other != "QLinearConv" for other in found)
    assert any(kind in other or other in {"Conv", "FusedConv"} for other in found)
    assert "never-integer" in told(recipe(op_types=("Conv", kind)))
    assert "never-integer" not in told(recipe())


@shows("clamps-left-out")
def test_a_clamp_that_is_left_out(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["r", "w", "b"], ["y"], "second", pads=[1, 1, 1, 1])
    model = one_op.conv(then=[helper.make_node("Relu", ["c"], ["r"]), conv])
    partial = one_op.optimized_kinds(one_op.static(model, tmp_path, op_types_to_quantize=["Conv"]))
    whole = one_op.optimized_kinds(one_op.static(model, tmp_path))
    assert partial.count("QLinearConv") == whole.count("QLinearConv") == 2
    assert (partial.count("DequantizeLinear"), whole.count("DequantizeLinear")) == (2, 1)
    assert told(recipe(op_types=("Conv",)), model) == {"clamps-left-out"}
    assert told(recipe(op_types=("Conv", "Relu")), model) == set()


@shows("clamps-kept")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_clamp_stays_with_symmetric_activations(tmp_path: Path, form: str) -> None:
    assert "Relu" not in one_op.kinds(one_op.static(clamped(), tmp_path, form=form))
    assert "Relu" in one_op.kinds(one_op.static(clamped(), tmp_path, form=form, extra_options={"ActivationSymmetric": True}))
    assert told(recipe(format=form, extra_options={"ActivationSymmetric": True}), clamped()) == {"clamps-kept"}


@shows("block-size-8")
def test_eight_bits_by_block(tmp_path: Path) -> None:
    path = one_op.static(one_op.matmul(), tmp_path, "QInt8", "QInt8", extra_options={"BlockSize": 16})
    with one_op.fails("QLinearMatMul", before="1.32"):
        one_op.outputs(path, one_op.feeds(one_op.matmul())[0])
    assert "block-size-8" in told(recipe(activation="QInt8", extra_options={"BlockSize": 16}))


@shows("nested")
@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_branches_stay_float(tmp_path: Path, method: str) -> None:
    model = one_op.branches()
    path = one_op.dynamic(model, tmp_path) if method == "dynamic" else _static_or_same(model, tmp_path)
    assert not any(map(is_quantized, one_op.kinds(path)))
    assert "nested" in told(recipe(method), model)


def _static_or_same(model: onnx.ModelProto, folder: Path) -> Path:
    """Quantize a model in which a calibration finds nothing to look at."""
    try:
        return one_op.static(model, folder)
    except ValueError as exc:
        assert "No data is collected" in str(exc)  # noqa: PT017 - both outcomes show that nothing is quantized
        return folder / "model.onnx"


@shows("nothing")
def test_a_model_without_what_a_recipe_works_on(tmp_path: Path) -> None:
    model = make_model([helper.make_node("Neg", ["x"], ["y"])], {"x": [1, 4]}, {"y": [1, 4]})
    assert one_op.kinds(one_op.dynamic(model, tmp_path)) == ["Neg"]
    for asked in (recipe(), recipe("dynamic"), recipe("nbits")):
        assert "nothing" in told(asked, model)
    assert "nothing" not in told(recipe("prepared"), model)
