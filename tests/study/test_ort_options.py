"""Every option of the installed onnxruntime can be set from a study, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnxruntime.quantization
import pytest
from pydantic import ValidationError

from harness.study.ort_options import CALIBRATION_OPTIONS, OPTIONS
from harness.study.specs import variant_spec
from harness.study.variants import StaticSpec

LIBRARY = Path(onnxruntime.quantization.__file__).parent
READ = re.compile(
    r"""extra_options(?:\s+or\s+\{\}\))?(?:\.get\(|\[)\s*["']([\w.]+)["']|["']([\w.]+)["']\s+(?:not\s+)?in\s+(?:self\.)?extra_options"""
)


def texts() -> dict[str, str]:
    return {
        path.name: path.read_text(encoding="utf-8") for path in [*LIBRARY.glob("*.py"), *(LIBRARY / "operators").glob("*.py")]
    }


def test_the_table_is_the_librarys() -> None:
    everything = texts()
    calibrate = everything.pop("calibrate.py")
    everything.pop("static_quantize_runner.py")
    read = {name for text in everything.values() for found in READ.findall(text) for name in found if name}
    # Two that are read through another name.
    read |= set(re.findall(r'\("(Calib\w+)", "\w+"\)', everything["quantize.py"])) | {"extra.Sigmoid.nnapi"}
    assert '"extra.Sigmoid.nnapi"' in everything["activation.py"]
    assert read == set(OPTIONS)
    documented = set(
        re.findall(r"^ +([A-Z]\w+) = (?:True/False|list|dictionary|float|Optional)", everything["quantize.py"], re.MULTILINE)
    )
    assert len(documented) > 15
    assert documented <= set(OPTIONS)
    known = {found[0] for found in READ.findall(calibrate)}
    assert known - set(CALIBRATION_OPTIONS) == {"max_intermediate_outputs", "per_channel"}
    assert set(CALIBRATION_OPTIONS) <= known


@pytest.mark.parametrize("name", OPTIONS)
def test_each_can_be_set(name: str) -> None:
    examples: dict[str, Any] = {
        "true or false": True,
        "a whole number": 1,
        "a number": 0.5,
        "text": "FLOAT",
        "a list of names": ["Conv"],
        "a table of whole numbers": {"MatMul": 1},
    }
    value = examples.get(OPTIONS[name].kind, {"y": {"quant_type": "QInt8"}})
    assert StaticSpec(extra_options={name: value}).extra_options == {name: value}
    with pytest.raises(ValidationError, match=name):
        variant_spec(method="static", extra_options={name: None})


TENSOR = "TensorQuantOverrides of 'y'"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ActivationSymetric": True}, "no option 'ActivationSymetric'; did you mean 'ActivationSymmetric'?"),
        ({"ActivationSymmetric": 1}, "ActivationSymmetric is true or false, not 1"),
        ({"MinimumRealRange": True}, "MinimumRealRange is a number, not True"),
        ({"BlockSize": 1.5}, "BlockSize is a whole number, not 1.5"),
        ({"DefaultTensorType": "INT8"}, "DefaultTensorType must be one of FLOAT, FLOAT16, BFLOAT16, DOUBLE, not 'INT8'"),
        ({"MinimumRealRange": float("nan")}, "options must be numbers, text, booleans, lists or tables: "),
        ({"TensorQuantOverrides": {"y": [1]}}, f"{TENSOR} must be a table, not 1"),
        ({"TensorQuantOverrides": {"y": {"type": "QInt8"}}}, f"{TENSOR} has no key 'type'; "),
        ({"TensorQuantOverrides": {"y": {"quant_type": "Int8"}}}, f"{TENSOR}: quant_type can't be 'Int8'; did you mean 'QInt8'?"),
        ({"TensorQuantOverrides": {"y": {"scale": 0.1}}}, f"{TENSOR}: scale and zero_point must be given together"),
        ({"TensorQuantOverrides": {"y": {"rmax": 0.1}}}, f"{TENSOR}: rmin and rmax must be given together"),
        (
            {"TensorQuantOverrides": {"y": {"scale": 0.1, "zero_point": 1, "symmetric": True}}},
            f"{TENSOR}: symmetric can't be combined with scale",
        ),
        ({"TensorQuantOverrides": {"y": {"convert": {"axis": 1}}}}, f"{TENSOR}, convert has no key 'axis'"),
        ({"TensorQuantOverrides": {"y": {"convert": {"symmetric": True}}}}, f"{TENSOR}, convert needs a quant_type"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        variant_spec(method="static", extra_options=options)


def test_calibration_options() -> None:
    given = {"num_bins": 2048, "percentile": 99.9, "symmetric": True}
    assert StaticSpec(calibration_options=given).calibration_options == given
    with pytest.raises(ValidationError, match="calibration has no option 'bins'; did you mean 'num_bins'"):
        variant_spec(method="static", calibration_options={"bins": 1})
    with pytest.raises(ValidationError, match="num_bins is a whole number, not '1'"):
        variant_spec(method="static", calibration_options={"num_bins": "1"})
    with pytest.raises(ValidationError, match="percentile must be from 0 to 100, not 101"):
        variant_spec(method="static", calibration_options={"percentile": 101})
    with pytest.raises(ValidationError, match="num_bins must be from 1 to 1048576, not 0"):
        variant_spec(method="static", calibration_options={"num_bins": 0})
