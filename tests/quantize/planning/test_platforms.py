"""What platforms make of recipes: the rules' data, and on the library here what can be shown here."""

from __future__ import annotations

import platform as machine
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import helper
from packaging.version import Version

from harness.quantize.model.canonical import canonical_hash
from harness.quantize.model.versions import limits
from harness.quantize.planning.platforms import BITS_SINCE, PLATFORM_RULES, verdicts
from harness.quantize.platform import platform
from harness.quantize.recipe import Recipe
from tests.models import make_model
from tests.quantize import one_op
from tests.quantize.conftest import brief
from tests.quantize.planning.test_constraints import recipe

XEON = "x86_64,avx2,avx512f,avx512_vnni,amx_int8"
EPYC = "x86_64,avx2,avx512f,avx512_vnni"
HASWELL = "x86_64,avx2"
A53, A76 = "aarch64,asimd", "aarch64,asimd,asimddp,asimdhp"
QOP: dict[str, Any] = {"format": "QOperator"}
S8S8: dict[str, Any] = {"activation": "QInt8", "weight": "QInt8"}
U8U8: dict[str, Any] = {"activation": "QUInt8", "weight": "QUInt8"}
FP16 = Recipe(name="r", method="fp16")
ORT = {form: Recipe(name="r", method="prepared", file_format=form) for form in ("ort-amd64", "ort-arm")}
DYNAMIC, DYNAMIC_U8 = recipe("dynamic"), recipe("dynamic", weight="QUInt8")

# The rule, a recipe, platforms on which it applies, and others.
CASES: list[tuple[str, Recipe, list[str], list[str]]] = [
    ("convinteger-s8", DYNAMIC, [f"{EPYC},1.23.2", f"{A53},1.15.1", f"{A53},1.24.0"], [f"{EPYC},1.24.1", EPYC]),
    ("convinteger-s8-slow", DYNAMIC, [f"{EPYC},1.24.1", f"{A76},1.31.1"], [f"{EPYC},1.23.2", EPYC]),
    ("convinteger-u8-slow", DYNAMIC_U8, [f"{EPYC},1.25.0"], [f"{EPYC},1.24.4", f"{A76},1.31.1"]),
    ("saturation", recipe(per_channel=True), [HASWELL, f"{HASWELL},1.31.1"], [EPYC, A76, "x86_64"]),
    ("saturation", recipe(per_channel=True, weight="QUInt8", **QOP), [HASWELL], [EPYC]),
    ("u8u8-wrong", recipe(**U8U8), [f"{XEON},1.21.0", f"{XEON},1.24.4"], [f"{XEON},1.20.1", f"{XEON},1.25.0", f"{EPYC},1.22.0", XEON]),
    ("u8u8-wrong", DYNAMIC_U8, [f"{XEON},1.23.2"], [f"{XEON},1.31.1"]),
    ("u8u8-slow", recipe(**U8U8), [f"{EPYC},1.25.0", f"{XEON},1.31.1"], [f"{EPYC},1.24.4", f"{HASWELL},1.31.1", f"{A76},1.31.1"]),
    ("qoperator-s8s8-slow", recipe(**QOP, **S8S8), [EPYC, f"{HASWELL},1.15.1", "amd64"], [A76, f"{A53},1.31.1"]),
    ("fp16-x86", FP16, [EPYC, HASWELL], [A76]),
    ("fp16-arm", FP16, [A53], [A76, EPYC, "aarch64"]),
    ("opset", recipe(activation="QUInt16"), [f"{EPYC},1.17.3", f"{A53},1.15.1"], [f"{EPYC},1.18.0", EPYC, f"{EPYC},1.3"]),
    ("four-bit-types", recipe(weight="QInt4"), [f"{EPYC},1.18.1"], [f"{EPYC},1.19.0", EPYC]),
    ("four-bit-types", recipe("nbits"), [f"{EPYC},1.18.1"], [f"{EPYC},1.19.0"]),
    ("matmulnbits", recipe("nbits", bits=8, **QOP), [f"{EPYC},1.22.1"], [f"{EPYC},1.23.0", EPYC]),
    ("matmulnbits", recipe("nbits", bits=2, **QOP), [f"{EPYC},1.23.2"], [f"{EPYC},1.24.0"]),
    ("matmulnbits", recipe("nbits", **QOP), [f"{EPYC},1.15.1"], [f"{EPYC},1.16.0"]),
    ("ort-format-other", ORT["ort-amd64"], [A53, "arm64", "armv7l"], [EPYC]),
    ("ort-format-other", ORT["ort-arm"], [EPYC], [A76]),
    ("ort-format-float", ORT["ort-amd64"], [EPYC], [A76]),
    ("sme-dynamic", DYNAMIC, ["aarch64,sme,1.24.4"], ["aarch64,sme,1.25.0", f"{A76},1.24.4"]),
]  # fmt: skip


def keys(where: str, asked: Recipe, model: onnx.ModelProto | None = None) -> list[str]:
    return [rule.key for rule in verdicts(platform(where), asked, brief(model or one_op.conv()))]


@pytest.mark.parametrize(("key", "asked", "there", "elsewhere"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_where_a_rule_applies(key: str, asked: Recipe, there: list[str], elsewhere: list[str]) -> None:
    assert all(key in keys(where, asked) for where in there)
    assert not any(key in keys(where, asked) for where in elsewhere)


def test_every_rule_has_a_source_and_a_test_or_a_place_where_it_was_seen() -> None:
    told = {case[0] for case in CASES}
    shown_here = {"qdq-s8s8-unfused", "ir-version"}
    assert {rule.key for rule in PLATFORM_RULES} == told | shown_here
    assert all(rule.source and rule.reason for rule in PLATFORM_RULES)
    assert {rule.key for rule in PLATFORM_RULES if not rule.seen} == {"qdq-s8s8-unfused"}


def test_refusals_come_first() -> None:
    assert keys(f"{XEON},1.17.3", recipe(activation="QUInt16")) == ["opset"]
    assert keys(f"{HASWELL},1.23.2", recipe("dynamic", per_channel=True))[:2] == ["convinteger-s8", "saturation"]


def test_a_model_without_convolutions_is_spared() -> None:
    assert "convinteger-s8" not in keys(f"{A53},1.15.1", DYNAMIC, one_op.matmul())
    assert "convinteger-s8" not in keys(f"{A53},1.15.1", DYNAMIC.model_copy(update={"op_types": ("MatMul",)}))


def test_the_reference_is_held_to_its_own_file() -> None:
    model = one_op.conv()
    model.ir_version = 11
    fp32 = Recipe(name="fp32", method="fp32")
    assert keys(f"{A53},1.22.1", fp32, model) == ["ir-version"]
    assert keys(f"{A53},1.23.2", fp32, model) == []
    assert "opset" in keys(f"{A53},1.15.1", fp32, one_op.conv(opset=21))


class TestOnTheLibraryHere:
    def test_dynamic_convolutions_load_since_1_24_1(self, tmp_path: Path) -> None:
        assert Version(onnxruntime.__version__) >= Version("1.24.1")
        one_op.session(one_op.dynamic(one_op.conv(), tmp_path))

    def test_bits_of_matmulnbits(self, tmp_path: Path) -> None:
        for bits in BITS_SINCE:
            one_op.session(one_op.nbits(one_op.matmul(), tmp_path, bits=bits, block_size=32))

    def test_the_newest_opset_and_ir_version(self, tmp_path: Path) -> None:
        found = limits(onnxruntime.__version__)
        assert found
        opset, ir_version = found.opset, found.ir
        for version, stamp, fails in ((opset, ir_version, False), (opset + 1, ir_version, True), (opset, ir_version + 1, True)):
            model = make_model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": [1]}, {"y": [1]}, opset=version)
            model.ir_version = stamp
            onnx.save(model, tmp_path / "model.onnx")
            if fails:
                with pytest.raises(Exception, match=r"opset|Opset|IR version|IR_VERSION|ir_version"):
                    one_op.session(tmp_path / "model.onnx")
            else:
                one_op.session(tmp_path / "model.onnx")

    @pytest.mark.skipif(machine.machine() != "x86_64", reason="signed tensors are rewritten on x86 alone")
    def test_signed_branches_stay_float(self, tmp_path: Path) -> None:
        then = [helper.make_node("Conv", ["c", "w", "b"], ["d"], pads=[1, 1, 1, 1]), helper.make_node("Add", ["c", "d"], ["y"])]
        model = one_op.conv(then=then)
        whole = one_op.optimized_kinds(one_op.static(model, tmp_path))
        assert ("QLinearAdd" in whole, whole.count("QLinearConv")) == (True, 2)
        signed = one_op.optimized_kinds(one_op.static(model, tmp_path, "QInt8", "QInt8"))
        assert "QLinearAdd" not in signed
        assert "qdq-s8s8-unfused" in keys(EPYC, recipe(**S8S8), model)
        assert "qdq-s8s8-unfused" not in keys(EPYC, recipe(**S8S8))
        assert "qdq-s8s8-unfused" not in keys(A76, recipe(**S8S8), model)

    @pytest.mark.skipif(machine.machine() != "x86_64", reason="ARM may compute in half precision")
    def test_half_precision_is_computed_in_float(self, cnn: Path, tmp_path: Path) -> None:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(cnn), keep_io_types=True), tmp_path / "half.onnx")
        assert "Cast" in one_op.optimized_kinds(tmp_path / "half.onnx")

    def test_one_file_is_one_session_on_every_platform(self, tmp_path: Path) -> None:
        one = canonical_hash(one_op.dynamic(one_op.conv(), tmp_path))
        assert one == canonical_hash(one_op.dynamic(one_op.conv(), tmp_path))


class TestReading:
    def test_a_description(self) -> None:
        found = platform("aarch64, asimddp, 1.23.2")
        assert (found.arch, found.features, found.runtime) == ("aarch64", frozenset({"asimddp"}), "1.23.2")
        assert platform("arm64").arch == "aarch64"
        assert platform("amd64,avx2").is_x86
        assert platform("armv7l,neon").is_arm

    @pytest.mark.parametrize("text", ["", ",", "1.23.2", "aarch64,", "aarch64,,1.23.2", "a b,1.23.2"])
    def test_no_description(self, text: str) -> None:
        with pytest.raises(ValueError, match="such as aarch64,asimddp"):
            platform(text)

    def test_other_words_for_features(self) -> None:
        assert platform("arm64,dotprod,fp16,1.31.1").features == {"asimddp", "asimdhp"}
        assert platform("x86_64,AVX512-VNNI").features == {"avx512_vnni"}
        assert platform("x86_64,avx512ifma,avx512_vp2intersect,smep").features == {"avx512ifma", "avx512_vp2intersect", "smep"}
        with pytest.raises(ValueError, match="'asimdp' is not a feature of a processor; did you mean 'asimdhp' or 'asimddp'"):
            platform("arm64,asimdp")

    def test_no_version(self) -> None:
        with pytest.raises(ValueError, match="is not a version"):
            platform("aarch64,1.x")
        with pytest.raises(ValueError, match="names 2 versions"):
            platform("aarch64,1.23.2,1.24.1")
