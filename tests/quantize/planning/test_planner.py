from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import ModelError
from harness.quantize.build import build
from harness.quantize.matrix import plan
from harness.quantize.model.model import read_model
from harness.quantize.model.outline import summarize
from harness.quantize.model.shapes import infer
from harness.quantize.planning.forecast import calibrated, count_samples
from harness.quantize.planning.planner import Plan, plan_build
from harness.quantize.planning.sizes import ACCURACY, file_size
from harness.quantize.platform import platform
from harness.study.study import Study, for_model
from tests.conftest import DIGITS
from tests.models import make_model
from tests.quantize import one_op, rules_page
from tests.quantize.conftest import brief
from tests.quantize.planning.test_constraints import recipe

Write = Callable[[str], Study]


def planned(study: Study, *platforms: str) -> Plan:
    return plan_build(study, plan(study), read_model(study.model.path), [platform(text) for text in platforms])


class TestPlan:
    def test_groups(self, write_study: Write) -> None:
        study = write_study(
            '[variants]\nmethods = ["static"]\nactivations = ["QUInt8", "QInt8"]\ncalibrations = ["MinMax", "Entropy"]\n'
        )
        told = planned(study, "x86_64,avx2,1.31.1")
        assert {each.name for each in told.of("impossible")} == {
            f"static-{form}-S8U8{more}" for form in ("QDQ", "QOperator") for more in ("", "-Entropy")
        }
        same = {each.name: each for each in told.of("same")}
        assert set(same) == {
            f"static-{form}-{types}-Entropy" for form in ("QDQ", "QOperator") for types in ("U8S8", "U8U8", "S8S8")
        }
        twin = same["static-QDQ-U8S8-Entropy"]
        assert (twin.same_as, twin.size) == ("static-QDQ-U8S8", None)
        assert twin.why is not None
        assert twin.why.rule == "entropy-is-minmax"
        made = {each.name: each for each in told.of("made")}
        assert made["static-QDQ-U8S8"].nodes == {"Conv": 2, "Relu": 1, "Add": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
        slow = made["static-QOperator-S8S8"].warnings
        assert [(warning.platform, warning.effect) for warning in slow] == [("x86_64,avx2,1.31.1", "slow")]
        assert told.needs.samples == 6
        assert told.disk == sum(each.size or 0 for each in told.of("made"))

    def test_it_says_what_a_build_gives(self, write_study: Write, tmp_path: Path) -> None:
        study = write_study(
            '[variants]\nmethods = ["fp32", "prepared", "fp16", "dynamic", "static", "nbits"]\nper_channel = [false, true]\n'
            'formats = ["QDQ", "QOperator"]\nactivations = ["QUInt8"]\nweights = ["QInt8", "QUInt8"]\nop_types = [["Conv"], ["Conv", "Erf"]]\n'
        )
        told = {each.name: each for each in planned(study).variants}
        found = {variant.name: variant for variant in build(study, tmp_path / "out")}
        assert set(told) == set(found)
        for name, each in told.items():
            assert (found[name].state == "impossible") == (each.state == "impossible"), name
            if each.state == "same":
                assert found[name].path == found[each.same_as or ""].path, name

    def test_the_time_of_checks_is_part_of_it(self, write_study: Write) -> None:
        few, more = (
            planned(
                write_study(f'[variants]\nmethods = ["dynamic", "static"]\nactivations = {types}\nweights = ["QInt8"]\n')
            ).needs
            for types in ('["QUInt8"]', '["QUInt8", "QUInt16"]')
        )
        # 16-bit activations need a newer operator set, and the raised model is checked too.
        assert 0 < few.checks < more.checks < (more.seconds or 0)
        assert planned(write_study('[variants]\nmethods = ["fp32"]\n')).needs.checks == 0

    def test_a_quantized_model(self, tmp_path: Path) -> None:
        path = one_op.static(one_op.conv(), tmp_path)
        told = planned(for_model(path))
        assert {each.name for each in told.of("made")} == {"fp32"}
        assert all(each.why and each.why.rule == "quantized" for each in told.of("impossible"))

    def test_sizes_that_are_not_given_count_as_one(self, cnn: Path) -> None:
        assert planned(for_model(cnn)).assumed == ("batch",)
        assert planned(for_model(cnn, dims={"batch": [4]})).assumed == ()
        four, one = (planned(for_model(cnn, dims={"batch": [size]})).needs.activations for size in (4, 1))
        assert four == 4 * one
        with pytest.raises(ModelError, match="no input has an open dimension 'bacth'"):
            planned(for_model(cnn, dims={"bacth": [1]}))

    def test_nothing_is_made_and_no_data_are_read(
        self, write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(*_: object, **__: object) -> None:
            pytest.fail("a plan must not do this")

        study = write_study("")
        before = sorted(tmp_path.rglob("*"))
        for name in (
            "onnxruntime.InferenceSession",
            "onnxruntime.quantization.quant_pre_process",
            "harness.quantize.data.load.load",
        ):
            monkeypatch.setattr(name, forbidden)
        planned(study, "aarch64,1.23.2")
        assert sorted(tmp_path.rglob("*")) == before

    def test_data_that_are_missing_are_no_reason_to_stop(self, cnn: Path) -> None:
        told = planned(for_model(cnn, dims={"batch": [1]}, calibration="nowhere.npz"))
        assert told.needs.samples is None
        assert told.needs.seconds is None
        whole = planned(for_model(cnn, dims={"batch": [1]}, calibration="random")).needs
        assert told.needs.seconds_per_sample == whole.seconds_per_sample
        assert whole.seconds is not None


class TestOddModels:
    def test_without_shapes_and_with_operators_of_others(self, tmp_path: Path) -> None:
        nodes = [helper.make_node("Mine", ["x"], ["a"], domain="mine"), helper.make_node("Conv", ["a", "w"], ["y"])]
        model = make_model(nodes, {"x": [1, 4, None, None]}, {"y": [None] * 4}, {"w": np.ones((4, 4, 1, 1), "f")})
        model.opset_import.append(helper.make_opsetid("mine", 1))
        onnx.save(model, tmp_path / "odd.onnx")
        told = planned(for_model(tmp_path / "odd.onnx"))
        assert told.needs.unknown == 2
        assert told.of("made")

    def test_with_branches(self, tmp_path: Path) -> None:
        onnx.save(one_op.branches(), tmp_path / "branches.onnx")
        told = planned(for_model(tmp_path / "branches.onnx"))
        static = next(each for each in told.variants if each.name == "static-QDQ-U8S8")
        assert {known.rule for known in static.caveats} == {"nested", "nothing"}

    def test_with_weights_that_are_computed(self) -> None:
        nodes = [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])]
        model = make_model(nodes, {"x": [4, 32]}, {"y": [4, 8]}, {"w": np.ones((8, 32), "f")})
        node, *others = brief(model).nodes
        assert others == []
        assert (node.kind, node.weights[0].dims) == ("MatMul", (32, 8))
        assert not node.lacks_weight

    def test_whose_weights_lie_beside_it_and_are_not_read(self, tmp_path: Path) -> None:
        onnx.save(one_op.matmul(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
        whole = brief(one_op.matmul())
        model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
        (tmp_path / "m.data").unlink()
        found = brief(model)
        assert [node.weights[0].count for node in found.nodes] == [node.weights[0].count for node in whole.nodes] == [512]
        assert found.parameters == 2048

    def test_scalars_constants_and_empty_names(self) -> None:
        constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.array(2, np.float32)))
        clip = helper.make_node("Clip", ["x", "", "k"], ["y"])
        summary = brief(make_model([constant, clip], {"x": [2]}, {"y": [2]}))
        assert [node.kind for node in summary.nodes] == ["Clip"]
        assert calibrated(summary) == ("x", "y")
        # A pair of nodes at the input and one at the output are added.
        assert summary.size < file_size(recipe(), summary) < summary.size + 1000


class TestForecast:
    """Estimates, held against what comes."""

    @pytest.mark.skipif(not (DIGITS / "model.onnx").exists(), reason="the digits study has not been made")
    def test_sizes_of_the_digits(self, tmp_path: Path) -> None:
        study = for_model(DIGITS / "model.onnx", calibration="random", dims={"batch": [1]})
        lists = {
            "methods": ["fp16", "dynamic", "static"],
            "weights": ["QInt8"],
            "activations": ["QUInt8"],
            "per_channel": [False, True],
        }
        study = study.model_copy(update={"variants": study.variants.model_copy(update=lists)})
        self._hold(study, tmp_path)

    @pytest.mark.slow
    def test_sizes_of_a_transformer(self, tmp_path: Path) -> None:
        _transformer(tmp_path / "m.onnx")
        study = for_model(tmp_path / "m.onnx", calibration="random", dims={})
        lists: dict[str, Any] = {
            "methods": ["fp16", "dynamic", "static", "nbits"],
            "weights": ["QInt8", "QInt16", "QInt4"],
            "activations": ["QUInt8"],
            "per_channel": [False, True],
        }
        self._hold(study.model_copy(update={"variants": study.variants.model_copy(update=lists)}), tmp_path)

    def _hold(self, study: Study, folder: Path) -> None:
        told = {each.name: each for each in planned(study).variants}
        made = [variant for variant in build(study, folder / "out") if variant.state == "made" and variant.size]
        assert len(made) > 6
        for variant in made:
            size = told[variant.name].size or told[told[variant.name].same_as or ""].size
            assert size == pytest.approx(variant.size, rel=ACCURACY), variant.name

    def test_activations_are_what_a_calibration_sees(self, cnn: Path) -> None:
        model = read_model(cnn)
        names = calibrated(summarize(model))
        proto = onnx.load(cnn)
        del proto.graph.output[:]
        fed = {value.name for value in proto.graph.input}
        proto.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in fed
        )
        onnx.save(proto, cnn.with_name("all.onnx"))
        feed = {"x": np.ones((2, 1, 8, 8), np.float32)}
        arrays = one_op.session(cnn.with_name("all.onnx")).run(None, feed)
        told = planned(for_model(cnn, dims={"batch": [2]}))
        assert told.needs.activations == sum(array.nbytes for array in arrays) + feed["x"].nbytes

    def test_multiplications(self, cnn: Path) -> None:
        told = planned(for_model(cnn, dims={"batch": [1]}))
        assert told.needs.multiplications == 8 * 8 * 4 * 9 * 1 + 8 * 8 * 4 * 9 * 4 + 4 * 3

    def test_shapes_without_weights(self, cnn: Path) -> None:
        found = infer(read_model(cnn), {"batch": 3})
        assert found["c2"] == ((3, 4, 8, 8), 4)
        assert found["y"] == ((3, 3), 4)

    def test_samples_are_counted(self, cnn: Path, calibration: Path, tmp_path: Path) -> None:
        model = read_model(cnn)
        assert count_samples(str(calibration), model, {"batch": 1}) == 6
        assert count_samples(str(calibration), model, {"batch": 2}) == 3
        assert count_samples("random", model, {"batch": 1}) == 16
        assert count_samples("module:callable", model, {"batch": 1}) is None
        assert count_samples(str(tmp_path / "none.npz"), model, {"batch": 1}) is None
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "a.png").touch()
        assert count_samples(str(tmp_path / "pictures"), model, {"batch": 1}) == 1
        assert count_samples(str(tmp_path / "pictures" / "a.png"), model, {"batch": 1}) == 1, "one picture is no file of arrays"


def _transformer(path: Path) -> None:
    """A block as an encoder has it, of 2 M weights: x [1, 16, 256] -> y of the same shape."""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {}
    nodes, last = [], "x"
    for number in range(4):
        weights |= {
            f"w{number}": rng.standard_normal((256, 1024)).astype("f"),
            f"v{number}": rng.standard_normal((1024, 256)).astype("f"),
        }
        weights |= {f"b{number}": np.zeros(1024, "f"), f"s{number}": np.ones(256, "f")}
        nodes += [
            helper.make_node("MatMul", [last, f"w{number}"], [f"m{number}"], f"up{number}"),
            helper.make_node("Add", [f"m{number}", f"b{number}"], [f"a{number}"], f"add{number}"),
            helper.make_node("Relu", [f"a{number}"], [f"r{number}"], f"relu{number}"),
            helper.make_node("MatMul", [f"r{number}", f"v{number}"], [f"d{number}"], f"down{number}"),
            helper.make_node("LayerNormalization", [f"d{number}", f"s{number}"], [f"n{number}"], f"norm{number}"),
        ]
        last = f"n{number}"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    onnx.save(make_model(nodes, {"x": [1, 16, 256]}, {"y": [1, 16, 256]}, weights), path)


def test_the_page_has_the_rules_as_they_are() -> None:
    assert rules_page.PAGE.read_text(encoding="utf-8") == rules_page.page()
