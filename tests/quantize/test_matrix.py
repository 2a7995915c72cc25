from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.errors import SelectionError, StudyError
from harness.quantize.matrix import plan, select
from harness.quantize.planning.constraints import impossible

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.study.study import Study

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


def test_each_method_has_the_fields_that_mean_something_to_it(write_study: WriteStudy) -> None:
    recipes = {
        recipe.name: recipe
        for recipe in plan(
            write_study(
                '[variants]\nmethods = ["prepared", "nbits"]\nformats = ["QDQ"]\nbits = [4, 8]\nfile_formats = ["onnx", "ort-arm"]\n'
                '[[variant]]\nmethod = "dynamic"\nextra_options = { MatMulConstBOnly = false }\n'
                '[[variant]]\nmethod = "fp16"\nkeep_io_types = false\nexclude_op_types = ["Resize"]\n'
                '[[variant]]\nmethod = "nbits"\nalgorithm = "HQQ"\nformat = "QOperator"\nsymmetric = false\naccuracy_level = 4\n'
            )
        )
    }
    assert list(recipes) == [
        *(
            "fp32",
            "prepared",
            "prepared-ort-arm",
            "fp16-io16-without-Resize",
            "dynamic-S8-MatMulConstBOnly_False",
        ),
        *("nbits-4b32", "nbits-4b32-ort-arm", "nbits-8b32", "nbits-8b32-ort-arm", "nbits-4b32-QOperator-HQQ-acc4"),
    ]
    eight = recipes["nbits-8b32"]
    assert (eight.format, eight.bits, eight.block_size, eight.symmetric, eight.weight) == ("QDQ", 8, 32, True, None)
    assert recipes["fp16-io16-without-Resize"].weight is None


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


def test_planning_does_not_import_onnx() -> None:
    code = "import sys, harness.quantize.matrix; print([m for m in ('onnx', 'onnxruntime', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert np.__name__ == "numpy"
