from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.registry import IntegerOpsRegistry, QLinearOpsRegistry

from harness.errors import SelectionError, StudyError
from harness.quantize.calibration import Reader
from harness.quantize.graph import is_quantized, nodes
from harness.quantize.matrix import DYNAMIC_OPS, QOPERATOR_OPS, REFERENCE, RULES, impossible, plan, select
from harness.quantize.quiet import quiet
from harness.quantize.recipe import Recipe
from tests.models import images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.study import Study

    WriteStudy = Callable[[str], Study]

DEFAULT = """
fp32 fp16 dynamic-S8 dynamic-U8
static-QDQ-S8S8 static-QDQ-S8U8 static-QDQ-U8S8 static-QDQ-U8U8
static-QOperator-S8S8 static-QOperator-S8U8 static-QOperator-U8S8 static-QOperator-U8U8
""".split()  # noqa: SIM905 - a table reads better


def names(study: Study) -> list[str]:
    return [recipe.name for recipe in plan(study)]


def test_default_matrix(write_study: WriteStudy) -> None:
    recipes = plan(write_study(""))
    assert [recipe.name for recipe in recipes] == DEFAULT
    assert [recipe.name for recipe in recipes if impossible(recipe)] == ["static-QDQ-S8U8", "static-QOperator-S8U8"]
    by_name = {recipe.name: recipe for recipe in recipes}
    mixed = by_name["static-QOperator-U8S8"]
    assert (mixed.activation, mixed.weight, mixed.format, mixed.calibration) == ("QUInt8", "QInt8", "QOperator", "MinMax")
    dynamic = by_name["dynamic-S8"]
    assert (dynamic.activation, dynamic.format, dynamic.calibration) == (None, None, None)


def test_fp32_is_first_even_if_not_asked_for(write_study: WriteStudy) -> None:
    study = write_study(
        '[variants]\nmethods = ["static", "fp16"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
    )
    assert names(study) == ["fp32", "fp16", "static-QDQ-U8S8"]


def test_suffixes_tell_what_is_unusual(write_study: WriteStudy) -> None:
    study = write_study(
        '[variants]\nmethods = ["static"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
        'per_channel = [false, true]\ncalibrations = ["MinMax", "Entropy"]\nop_types = [[], ["Conv", "Mul"]]\n'
    )
    assert names(study)[1:] == [
        "static-QDQ-U8S8",
        "static-QDQ-U8S8-Conv+Mul",
        "static-QDQ-U8S8-Entropy",
        "static-QDQ-U8S8-Entropy-Conv+Mul",
        "static-QDQ-U8S8-pc",
        "static-QDQ-U8S8-pc-Conv+Mul",
        "static-QDQ-U8S8-pc-Entropy",
        "static-QDQ-U8S8-pc-Entropy-Conv+Mul",
    ]


def test_spelled_out_variants(write_study: WriteStudy) -> None:
    study = write_study(
        '[variants]\nmethods = ["dynamic"]\nweights = ["QInt8"]\n'
        '[[variant]]\nname = "conv-only"\nmethod = "static"\nop_types = ["Conv"]\nexclude_nodes = ["/head/*"]\n'
        '[[variant]]\nmethod = "static"\nreduce_range = true\n'
        '[[variant]]\nmethod = "static"\nexclude_nodes = ["head"]\n'
        '[[variant]]\nmethod = "static"\nexclude_nodes = ["/head/*"]\n'
        '[[variant]]\nmethod = "static"\nexclude_nodes = ["/head"]\n'
        '[[variant]]\nmethod = "dynamic"\n'  # the same as the crossed one: adds nothing
        '[[variant]]\nmethod = "fp32"\n'
    )
    found = names(study)
    assert found[:5] == ["fp32", "dynamic-S8", "conv-only", "static-QDQ-U8S8-rr", "static-QDQ-U8S8-without-head"]
    assert len(found) == len(set(found)) == 7
    assert all(name.startswith("static-QDQ-U8S8-without-head-") for name in found[5:])
    dynamic = plan(study)[1]
    assert dynamic.calibration is None
    assert dynamic.activation is None


def test_names_are_files_whatever_the_op_types(write_study: WriteStudy) -> None:
    many = ", ".join(f'"Operator{n}"' for n in range(40))
    study = write_study(f'[variants]\nmethods = ["dynamic"]\nop_types = [["com.x::Op/../a"], [{many}]]\n')
    assert all(len(name) < 80 and "/" not in name and ":" not in name for name in names(study))
    assert len(set(names(study))) == 5


@pytest.mark.parametrize("taken", ["fp16", "static-QDQ-U8S8", "fp32"])
def test_duplicate_names(write_study: WriteStudy, taken: str) -> None:
    study = write_study(f'[[variant]]\nname = "{taken}"\nmethod = "dynamic"\nreduce_range = true\n')
    with pytest.raises(StudyError, match=f"two variants are called '{taken}'"):
        plan(study)


def test_two_spelled_out_with_one_name(write_study: WriteStudy) -> None:
    spec = '[[variant]]\nname = "mine"\nmethod = "dynamic"\n'
    with pytest.raises(StudyError, match="'mine'"):
        plan(write_study(spec + spec))


class TestSelect:
    def test_globs(self, write_study: WriteStudy) -> None:
        recipes = plan(write_study(""))

        def chosen(*globs: str) -> list[str]:
            return [recipe.name for recipe in select(recipes, globs)]

        assert chosen() == DEFAULT
        assert chosen("dynamic-*") == ["fp32", "dynamic-S8", "dynamic-U8"]
        assert chosen("fp16, dynamic-U8") == ["fp32", "fp16", "dynamic-U8"]
        assert chosen("*-U8U8", "fp16") == ["fp32", "fp16", "static-QDQ-U8U8", "static-QOperator-U8U8"]

    def test_no_match(self, write_study: WriteStudy) -> None:
        recipes = plan(write_study(""))
        with pytest.raises(SelectionError, match=r"no variant matches 'dynamic-S9'; did you mean 'dynamic-S8'\?"):
            select(recipes, ["fp16,dynamic-S9"])


class TestRulesOnTheRealLibrary:
    """Each rule is what onnxruntime does, not what we believe."""

    def quantized_nodes(self, path: Path) -> int:
        return sum(is_quantized(node.op_type) for node in nodes(onnx.load(path)))

    @pytest.mark.parametrize("form", list(QuantFormat))
    def test_signed_activations_with_unsigned_weights(self, cnn: Path, tmp_path: Path, form: QuantFormat) -> None:
        with quiet(), pytest.raises(ValueError, match=r"activation_type=QuantType\.QInt8, weight_type=QuantType\.QUInt8"):
            quantize_static(
                cnn,
                tmp_path / "o.onnx",
                Reader([{"x": images(1)}]),
                quant_format=form,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QUInt8,
            )
        recipe = Recipe(name="r", method="static", format=form.name, activation="QInt8", weight="QUInt8")
        assert "QInt8 with weights QUInt8" in (impossible(recipe) or "")

    def test_dynamic_without_an_integer_operator(self, cnn: Path, tmp_path: Path) -> None:
        assert {*IntegerOpsRegistry, "Gemm"} == DYNAMIC_OPS
        with quiet():
            quantize_dynamic(cnn, tmp_path / "o.onnx", op_types_to_quantize=["Relu", "Add"])
        assert self.quantized_nodes(tmp_path / "o.onnx") == 0
        recipe = Recipe(name="r", method="dynamic", weight="QInt8", op_types=("Relu", "Add"))
        assert "IntegerOpsRegistry" in (impossible(recipe) or "")
        assert impossible(recipe.model_copy(update={"op_types": ("Relu", "Conv")})) is None

    def test_qoperator_without_a_quantized_operator(self, cnn: Path, tmp_path: Path) -> None:
        assert set(QLinearOpsRegistry) == QOPERATOR_OPS
        kinds = ["Slice", "ReduceMean"]
        found = {}
        for form in QuantFormat:
            model = onnx.load(cnn)
            model.graph.node[4].CopyFrom(onnx.helper.make_node("ReduceMean", ["a"], ["p"], "pool", axes=[2, 3]))
            onnx.save(model, tmp_path / "m.onnx")
            with quiet():
                reader = Reader([{"x": images(1)}])
                quantize_static(tmp_path / "m.onnx", tmp_path / "o.onnx", reader, quant_format=form, op_types_to_quantize=kinds)
            found[form.name] = self.quantized_nodes(tmp_path / "o.onnx")
        assert found["QOperator"] == 0
        assert found["QDQ"] > 0
        recipe = Recipe(name="r", method="static", format="QOperator", activation="QUInt8", weight="QInt8", op_types=tuple(kinds))
        assert impossible(recipe)
        assert impossible(recipe.model_copy(update={"format": "QDQ"})) is None

    def test_every_rule_names_its_source(self) -> None:
        assert all(rule.source in str(rule) and rule.reason for rule in RULES)
        assert impossible(REFERENCE) is None


def test_planning_does_not_import_onnx() -> None:
    code = "import sys, harness.quantize.matrix; print([m for m in ('onnx', 'onnxruntime', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert np.__name__ == "numpy"
