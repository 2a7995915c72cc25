from __future__ import annotations

import errno
import hashlib
import logging
import stat
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from harness.errors import DataError, ResultsError
from harness.quantize import build as building
from harness.quantize import context, prepare
from harness.quantize.build import build, needs_calibration
from harness.quantize.calibration import calibration as calibrating
from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.data import load as data
from harness.quantize.matrix import plan
from harness.quantize.methods import float16
from harness.quantize.model.graph import is_quantized, nodes
from harness.quantize.model.model import open_model
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError
from harness.quantize.recipe import Recipe
from harness.quantize.verify import readback
from harness.study import study as studies
from harness.study.specs import VariantSpec
from harness.study.variants import VariantsSection
from tests.models import images, make_model, tiny_cnn
from tests.quantize.conftest import patch_make

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.quantize.context import BuildContext
    from harness.quantize.recipe import Variant
    from harness.study.study import Study

    WriteStudy = Callable[[str], Study]

ONE_STATIC = '[variants]\nmethods = ["static"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
NONE = "[variants]\nmethods = []\n"


def by_name(variants: tuple[Variant, ...]) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants}


def op_types(variant: Variant) -> list[str]:
    assert variant.path is not None, variant.reason
    return [node.op_type for node in nodes(onnx.load(variant.path))]


def integers(variant: Variant) -> list[str]:
    return [kind for kind in op_types(variant) if is_quantized(kind)]


def run(variant: Variant) -> np.ndarray:
    assert variant.path is not None, variant.reason
    session = onnxruntime.InferenceSession(variant.path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": images(4)})[0])


def test_default_matrix(write_study: WriteStudy, tmp_path: Path) -> None:
    told: list[Variant] = []
    out = tmp_path / "out"
    variants = build(write_study(""), out, on_event=told.append)
    assert list(variants) == told
    states = {variant.name: variant.state for variant in variants}
    assert {name for name, state in states.items() if state == "impossible"} == {"static-QDQ-S8U8", "static-QOperator-S8U8"}
    assert all(state == "made" for name, state in states.items() if not name.endswith("S8U8"))
    made = [variant for variant in variants if variant.path]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{variant.name}.onnx" for variant in made)
    reference = run(variants[0])
    for variant in made:
        assert variant.path
        assert variant.size == variant.path.stat().st_size
        assert variant.notes == ()
        error = np.abs(run(variant) - reference).max()
        # Rounding to 8 bits must be seen, and must not ruin the outputs.
        assert error == 0 if variant.name == "fp32" else 0 < error < 0.1 * np.abs(reference).max()


def test_fp32_is_the_file_itself(write_study: WriteStudy, cnn: Path, tmp_path: Path) -> None:
    (variant,) = build(write_study(NONE + '[[variant]]\nmethod = "fp32"\n'), tmp_path / "out")
    assert variant.path
    assert variant.path.read_bytes() == cnn.read_bytes()
    assert variant.sha256 == open_model(cnn).sha256


def test_fp32_takes_external_data_in(write_study: WriteStudy, cnn: Path, tmp_path: Path) -> None:
    study = write_study("")
    onnx.save(onnx.load(cnn), cnn, save_as_external_data=True, location="cnn.data", size_threshold=0)
    variants = by_name(build(study, tmp_path / "out", cache=tmp_path / "cache"))
    assert variants["fp32"].notes == ("the external data were put into the model file",)
    assert run(variants["fp32"]).shape == (4, 3)
    assert run(variants["static-QDQ-U8S8"]).shape == (4, 3)
    # What was kept is found again, but not for a model whose other file changed.
    again = build(study, tmp_path / "out", cache=tmp_path / "cache")
    assert [variant.sha256 for variant in again] == [variant.sha256 for variant in variants.values()]
    data = bytearray((cnn.parent / "cnn.data").read_bytes())
    data[100] ^= 1
    (cnn.parent / "cnn.data").write_bytes(data)
    other = by_name(build(study, tmp_path / "out", cache=tmp_path / "cache"))
    assert other["static-QDQ-U8S8"].sha256 != variants["static-QDQ-U8S8"].sha256


def test_fp16_is_half_and_keeps_its_inputs(write_study: WriteStudy, tmp_path: Path) -> None:
    variant = by_name(build(write_study('[variants]\nmethods = ["fp16"]\n'), tmp_path / "out"))["fp16"]
    assert variant.path
    model = onnx.load(variant.path)
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT16}
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_fp16_falls_back(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        message = "no converter today"
        raise TypeError(message)

    study = write_study('[variants]\nmethods = ["fp16"]\n')
    monkeypatch.setattr(float16, "_by_onnxruntime", broken)
    variant = by_name(build(study, tmp_path / "out"))["fp16"]
    assert variant.notes == ("converted by onnxconverter-common, because by onnxruntime: TypeError: no converter today",)
    monkeypatch.setattr(float16, "_by_common", broken)
    variant = by_name(build(study, tmp_path / "out"))["fp16"]
    assert (variant.state, variant.path) == ("failed", None)
    assert variant.reason == "onnxruntime: TypeError: no converter today; onnxconverter-common: TypeError: no converter today"
    assert not (tmp_path / "out" / "fp16.onnx").exists()  # the one that was made before is gone


@pytest.mark.parametrize("method", [method.name for method in CalibrationMethod])
def test_sharing_a_calibration_changes_nothing(write_study: WriteStudy, cnn: Path, tmp_path: Path, method: str) -> None:
    """Each variant is the one that quantize_static gives with a calibration of its own, whatever the method."""
    # Its ranges do not clamp as the Relu does, which therefore stays.
    skipped = 'skip_steps = ["keep-clamps"]\n' if method == "Distribution" else ""
    study = write_study(
        f'[variants]\nmethods = ["static"]\nactivations = ["QUInt8"]\ncalibrations = ["{method}"]\n'
        f'per_channel = [false, true]\nop_types = [[], ["Conv"]]\n{skipped}'
    )
    source = open_model(cnn)
    feeds = data.load(study.model.calibration, source, {"batch": 1}, what="calibration").feeds
    prepared = prepare.prepare(source, tmp_path)
    compared = 0
    for variant in build(study, tmp_path / "out"):
        recipe = variant.recipe
        if recipe.method == "fp32":
            continue
        with quiet():
            quantize_static(
                prepared.path,
                tmp_path / "alone.onnx",
                CopiedReader(feeds),
                quant_format=QuantFormat[recipe.format],
                op_types_to_quantize=list(recipe.op_types),
                per_channel=recipe.per_channel,
                activation_type=QuantType[recipe.activation],
                weight_type=QuantType[recipe.weight],
                calibrate_method=CalibrationMethod[method],
            )
        assert variant.path
        assert onnx.load(variant.path) == onnx.load(tmp_path / "alone.onnx"), variant.name
        compared += 1
    assert compared == 16


def test_the_model_is_prepared_and_calibrated_once(
    write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*args, **options)

        return call

    monkeypatch.setattr(context, "prepare", counted("prepare", prepare.prepare))
    monkeypatch.setattr("harness.quantize.calibration.find.calibrate", counted("calibrate", calibrating.calibrate))
    monkeypatch.setattr(building, "open_model", counted("open", open_model))
    build(write_study('[variants]\ncalibrations = ["MinMax", "Percentile"]\n'), tmp_path / "out")
    assert sorted(calls) == ["calibrate", "open", "prepare"]


def test_what_is_asked_for_is_what_is_made(write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study(
        NONE + '[[variant]]\nname = "conv"\nmethod = "static"\nop_types = ["Conv"]\nformat = "QOperator"\n'
        '[[variant]]\nname = "but-head"\nmethod = "static"\nformat = "QOperator"\nexclude_nodes = ["head/*"]\n'
        '[[variant]]\nname = "rr"\nmethod = "static"\nreduce_range = true\n'
        '[[variant]]\nname = "gemm"\nmethod = "dynamic"\nop_types = ["Gemm"]\n'
        '[[variant]]\nname = "matmul"\nmethod = "dynamic"\nop_types = ["MatMul"]\n'
        '[[variant]]\nname = "static-matmul"\nmethod = "static"\nop_types = ["MatMul"]\n'
        '[[variant]]\nname = "dynamic-but-head"\nmethod = "dynamic"\nexclude_nodes = ["head/gemm"]\n'
    )
    variants = by_name(build(study, tmp_path / "out"))
    assert integers(variants["conv"]).count("QLinearConv") == 2
    assert "Gemm" in op_types(variants["conv"])
    assert "Gemm" in op_types(variants["but-head"])
    assert "QLinearConv" in op_types(variants["but-head"])
    assert variants["rr"].path
    weights = [w for w in onnx.load(variants["rr"].path).graph.initializer if w.data_type == TensorProto.INT8 and len(w.dims) > 1]
    assert weights
    assert max(np.abs(onnx.numpy_helper.to_array(weight)).max() for weight in weights) <= 64
    assert "MatMulInteger" in integers(variants["gemm"])
    assert "ConvInteger" not in integers(variants["gemm"])
    # For onnxruntime a Gemm is a MatMul when it quantizes dynamically, but not when it does statically.
    assert integers(variants["matmul"]) == integers(variants["gemm"])
    assert integers(variants["static-matmul"]) == []
    assert variants["static-matmul"].notes == (
        "the prepared model has no MatMul; the preparation joins MatMul and Add into Gemm",
        "nothing was quantized",
    )
    assert "MatMulInteger" not in integers(variants["dynamic-but-head"])
    assert "ConvInteger" in integers(variants["dynamic-but-head"])


def test_dynamic_gemm_leaves_matmul_alone(tmp_path: Path) -> None:
    weights = {"w1": np.eye(4, dtype=np.float32), "w2": np.eye(4, dtype=np.float32), "b": np.ones(4, np.float32)}
    layers = [
        helper.make_node("MatMul", ["x", "w1"], ["m"], "matmul"),
        helper.make_node("Relu", ["m"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b"], ["y"], "gemm"),
    ]
    onnx.save(make_model(layers, {"x": [1, 4]}, {"y": [1, 4]}, weights), tmp_path / "m.onnx")
    text = f'name = "t"\n[model]\npath = "m.onnx"\n{NONE}'
    for kind in ("Gemm", "MatMul"):
        text += f'[[variant]]\nname = "{kind}"\nmethod = "dynamic"\nop_types = ["{kind}"]\n'
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    variants = by_name(build(studies.load(tmp_path), tmp_path / "out"))
    assert integers(variants["Gemm"]).count("MatMulInteger") == 1
    assert "MatMul" in op_types(variants["Gemm"])
    assert integers(variants["MatMul"]).count("MatMulInteger") == 2


def test_exclusions_that_match_nothing(write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study(
        NONE + '[[variant]]\nname = "a"\nmethod = "static"\nexclude_nodes = ["head/gem"]\n'
        '[[variant]]\nname = "b"\nmethod = "dynamic"\nexclude_nodes = ["zzz*"]\n'
    )
    variants = by_name(build(study, tmp_path / "out"))
    assert variants["a"].state == variants["b"].state == "failed"
    assert (
        variants["a"].reason
        == "exclude_nodes: 'head/gem' matches no node of the model, nor of the prepared one; did you mean 'head/gemm'?"
    )
    assert "the first are conv1, relu1" in (variants["b"].reason or "")


def test_the_opset_is_raised_where_a_recipe_needs_it(cnn: Path, write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study(
        '[variants]\nmethods = ["static"]\nactivations = ["QUInt8", "QUInt16"]\nweights = ["QInt8"]\nper_channel = [false, true]\n'
    )
    tiny_cnn(cnn, opset=11)
    variants = by_name(build(study, tmp_path / "out"))
    raised = {name: note for name, variant in variants.items() for note in variant.notes if "opset" in note}
    # Per channel by ours, 16 bits by quantize_static itself.
    assert raised == {
        "static-QDQ-U8S8-pc": "opset 11 was raised to 13",
        "static-QDQ-U16S8": "opset 11 was raised to 21",
        "static-QDQ-U16S8-pc": "opset 11 was raised to 21",
    }
    error = {name: np.abs(run(variants[name]) - run(variants["fp32"])).max() for name in raised}
    assert all(0 < found < 0.1 * np.abs(run(variants["fp32"])).max() for found in error.values())
    assert run(variants["static-QOperator-U8S8-pc"]).shape == (4, 3)


def test_labels_are_checked_against_the_file(write_study: WriteStudy, tmp_path: Path) -> None:
    """QLinearConv per channel is int8 whatever it is told; the variant says so, and names its twin."""
    study = write_study(
        '[variants]\nmethods = ["static"]\nformats = ["QOperator"]\nactivations = ["QUInt8"]\nper_channel = [true]\nop_types = [["Conv"]]\n'
    )
    variants = by_name(build(study, tmp_path / "out"))
    assert variants["static-QOperator-U8S8-pc-Conv"].notes == ()
    assert variants["static-QOperator-U8U8-pc-Conv"].notes == (
        "asked QUInt8 weights, got QInt8 in 2 of 2 (QLinearConv)",
        "the same file as static-QOperator-U8S8-pc-Conv",
    )


def test_weights_are_read_back_in_qdq_models_too(write_study: WriteStudy, tmp_path: Path) -> None:
    variant = build(write_study(ONE_STATIC), tmp_path / "out")[1]
    assert variant.path
    assert readback.check(variant.recipe, variant.path) == ()
    mislabelled = variant.recipe.model_copy(update={"weight": "QUInt8"})
    assert readback.check(mislabelled, variant.path) == ("asked QUInt8 weights, got QInt8 in 3 of 3 (Conv, Gemm)",)


def test_one_failure_stops_nothing(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_: Recipe, shop: BuildContext, path: Path) -> tuple[str, ...]:
        path.write_bytes(b"half")
        message = f"\n\n  cannot write {shop.folder}/made/x: {'long ' * 100}\nsecond line"
        raise ZeroDivisionError(message)

    patch_make(monkeypatch, "dynamic", explode)
    variants = by_name(build(write_study(""), tmp_path / "out"))
    reason = variants["dynamic-S8"].reason or ""
    assert reason.startswith("ZeroDivisionError: cannot write x: long")
    assert len(reason) == 300
    assert variants["static-QOperator-U8U8"].state == "made"
    assert not list((tmp_path / "out").glob("dynamic*"))


def test_a_failed_calibration_is_tried_once(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(*_: object, **__: object) -> Path:
        calls.append(1)
        message = "If node failed. Status Message: inner cause"
        raise RuntimeError(message)

    monkeypatch.setattr("harness.quantize.calibration.find.calibrate", fail)
    variants = by_name(build(write_study(""), tmp_path / "out"))
    assert len(calls) == 1
    assert variants["static-QDQ-U8U8"].reason == "calibration by MinMax failed: RuntimeError: inner cause"
    assert variants["dynamic-U8"].state == "made"


def test_an_interrupt_leaves_no_half_file(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Recipe, __: BuildContext, path: Path) -> tuple[str, ...]:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    patch_make(monkeypatch, "dynamic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(write_study(""), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fp16.onnx", "fp32.onnx"]


def test_nothing_reaches_the_terminal(
    write_study: WriteStudy, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = list(logging.getLogger().handlers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(write_study('[variants]\ncalibrations = ["Percentile", "Entropy"]\n'), tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert [str(warning.message) for warning in caught] == []
    assert logging.getLogger().handlers == before


def test_data_are_only_read_if_needed(write_study: WriteStudy, calibration: Path, tmp_path: Path) -> None:
    calibration.write_bytes(b"broken")
    study = write_study('[variants]\nmethods = ["dynamic"]\n')
    assert not needs_calibration(plan(study))
    assert by_name(build(study, tmp_path / "out"))["dynamic-S8"].state == "made"
    with pytest.raises(DataError):
        build(write_study(ONE_STATIC), tmp_path / "out")


def test_random_data_are_confessed(write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study(ONE_STATIC)
    study = study.model_copy(update={"model": study.model.model_copy(update={"calibration": "random"})})
    assert build(study, tmp_path / "out")[1].notes == ("the calibration data are random, so accuracy figures mean nothing",)


def test_the_model_is_never_overwritten(tmp_path: Path, calibration: Path) -> None:
    path = tiny_cnn(tmp_path / "dynamic-S8.onnx")
    content = path.read_bytes()
    study = studies.for_model(path, dims={"batch": [1]}, calibration=str(calibration))
    with pytest.raises(ResultsError, match="would overwrite the model itself"):
        build(study, tmp_path)
    assert path.read_bytes() == content


def test_unwritable_folder(write_study: WriteStudy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResultsError, match="variants can't be written here"):
        build(write_study(""), tmp_path / "file" / "out")


@pytest.mark.parametrize("method", ["MinMax", "Percentile", "Entropy"])
def test_a_model_without_a_tensor_to_calibrate(tmp_path: Path, method: str) -> None:
    """Nothing of it can be quantized: silero_vad is such a model, for all of it lies in the bodies of If."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([onnx.helper.make_node("Exp", ["x"], ["y"])], "g", [value("x", 1, [4])], [value("y", 1, [4])])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    spec = VariantSpec.model_validate({"method": "static", "calibration": method})
    study = studies.for_model(tmp_path / "m.onnx").model_copy(update={"variants": VariantsSection(methods=[]), "variant": [spec]})
    variant = build(study, tmp_path / "out")[1]
    assert variant.state == "made", variant.reason
    assert "nothing was quantized" in variant.notes


class TestCache:
    def test_what_is_said_of_the_data_is_of_those_of_this_build(self, write_study: WriteStudy, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        spec = '[[variant]]\nname = "r"\nmethod = "static"\ncalibration_data = '
        first = build(write_study(f'[variants]\nmethods = []\n{spec}"random"\n'), tmp_path / "a", cache=cache)[1]
        feeds = list(data.load("random", open_model(write_study("").model.path), {"batch": 1}, what="calibration").feeds)
        np.savez(tmp_path / "same.npz", x=np.stack([feed["x"] for feed in feeds]))
        second = build(write_study(f'[variants]\nmethods = []\n{spec}"{tmp_path}/same.npz"\n'), tmp_path / "b", cache=cache)[1]
        assert first.sha256 == second.sha256
        assert any("random" in note for note in first.notes)
        assert not any("random" in note for note in second.notes)

    def test_second_build_makes_nothing(self, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        study, cache = write_study(""), tmp_path / "cache"
        first = build(study, tmp_path / "a", cache=cache)
        monkeypatch.setattr(context, "prepare", None)
        second = build(study, tmp_path / "b", cache=cache)
        assert [(v.name, v.sha256, v.notes, v.state) for v in first] == [(v.name, v.sha256, v.notes, v.state) for v in second]
        assert all(variant.path.parent.name == "b" and variant.path.is_file() for variant in second if variant.path)
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700

    def test_everything_that_matters_is_in_the_key(
        self, write_study: WriteStudy, cnn: Path, calibration: Path, tmp_path: Path
    ) -> None:
        study, cache = write_study(ONE_STATIC), tmp_path / "cache"
        hashes = set()

        def rebuild() -> None:
            variant = build(study, tmp_path / "out", cache=cache)[1]
            hashes.add(variant.sha256)

        rebuild()
        np.savez(calibration, x=images(6, seed=8))
        rebuild()
        proto = onnx.load(cnn)
        proto.graph.initializer[0].raw_data = bytes(len(proto.graph.initializer[0].raw_data))
        onnx.save(proto, cnn)
        rebuild()
        assert len(hashes) == 3

    def test_damage_is_noticed(self, write_study: WriteStudy, tmp_path: Path) -> None:
        study, cache = write_study(ONE_STATIC), tmp_path / "cache"
        build(study, tmp_path / "out", cache=cache)
        for pattern in ("*.onnx", "*.json"):
            for file in cache.glob(pattern):
                file.write_bytes(b"damaged")
            variant = build(study, tmp_path / "out", cache=cache)[1]
            assert variant.path
            assert hashlib.sha256(variant.path.read_bytes()).hexdigest() == variant.sha256
            assert "QuantizeLinear" in op_types(variant)

    def test_unwritable(self, write_study: WriteStudy, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        assert build(write_study(ONE_STATIC), tmp_path / "out", cache=tmp_path / "file" / "cache")[1].state == "made"


class TestPrepare:
    def test_strips_what_the_optimizer_stamps(self, cnn: Path, tmp_path: Path) -> None:
        found = prepare.prepare(open_model(cnn), tmp_path)
        assert (found.rung, found.failures, found.notes) == ("default", (), ())
        assert [(entry.domain, entry.version) for entry in found.proto.opset_import] == [("", 17)]
        assert onnx.load(found.path) == found.proto

    def test_climbs_down(self, cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tried = []

        def fail(*_: object, **options: object) -> None:
            tried.append(options)
            raise AssertionError

        monkeypatch.setattr(prepare, "quant_pre_process", fail)
        found = prepare.prepare(open_model(cnn), tmp_path)
        assert found.rung == "raw"
        assert len(tried) == len(found.failures) == 6
        assert found.notes == (
            "quantized from an unprepared model, because the preparation failed: default: AssertionError: in fail of test_build.py",
        )
        assert len(found.proto.graph.node) == 7

    def test_a_real_failure_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # An operator that only its owner knows: symbolic shape inference gives up, and dumps its state where it stands.
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        node = helper.make_node("Mystery", ["x"], ["m"], "mystery", domain="org.example")
        proto = make_model([node, helper.make_node("Relu", ["m"], ["y"])], {"x": [1, 4]}, {"y": [1, 4]})
        proto.opset_import.append(helper.make_opsetid("org.example", 1))
        onnx.save(proto, tmp_path / "m.onnx")
        found = prepare.prepare(open_model(tmp_path / "m.onnx"), tmp_path)
        assert found.rung != "default"
        assert "(Exception: Incomplete symbolic shape inference)" in found.failures[0]
        assert list(here.iterdir()) == []
        assert {entry.domain for entry in found.proto.opset_import} == {"", "org.example"}
        assert [node.name for node in found.proto.graph.node] == ["mystery", "Relu_1"]

    def test_dimensions_called_alike_are_kept_apart(self, tmp_path: Path) -> None:
        pool = helper.make_node("GlobalAveragePool", ["x"], ["y"])
        onnx.save(make_model([pool], {"x": ["?", 3, "?", "?"]}, {"y": [None, 3, 1, 1]}), tmp_path / "m.onnx")
        found = prepare.prepare(open_model(tmp_path / "m.onnx"), tmp_path)
        names = [size.dim_param for size in found.proto.graph.input[0].type.tensor_type.shape.dim if not size.dim_value]
        assert "?" not in names


def test_excluding_without_data_is_a_recipe_error(cnn: Path, tmp_path: Path) -> None:
    shop = context.BuildContext(open_model(cnn), {}, tmp_path)
    with pytest.raises(RecipeError, match="no calibration data"):
        shop.ranges(Recipe(name="static", method="static"))


def test_a_full_disk_is_no_recipes_fault(cnn: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    study = studies.for_model(cnn, dims={"batch": [1]}, calibration=str(calibration))
    with pytest.raises(ResultsError, match="variants can't be written here: No space left on device"):
        build(study, tmp_path / "out")


def test_an_interrupt_while_the_temporary_folder_is_made_leaves_none(
    write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **options: Any) -> str:
        made(*args, **options)
        raise KeyboardInterrupt

    made = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(write_study(ONE_STATIC), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
