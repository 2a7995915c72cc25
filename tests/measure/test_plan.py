from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.devices.facts import Facts, Runtime
from harness.measure import plan
from harness.quantize.recipe import Recipe, Variant
from harness.study.study import MeasureSection

if TYPE_CHECKING:
    pass

FACTS = Facts(arch="aarch64", cores=4, python="3.11.2", onnxruntime=Runtime(version="1.31.1"), uncountable=None)


def variant(name: str, state: str = "made") -> Variant:
    return Variant.model_validate(
        {"recipe": Recipe(name=name, method="fp32"), "state": state, "sha256": name, "size": 1, "path": Path(name)}
    )


def test_cases_cross_what_was_made_with_the_settings() -> None:
    measure = MeasureSection(threads=[1, 2], optimization=["all"])
    found = plan.cases([variant("fp32"), variant("lost", "failed")], measure, [{"batch": 1}, {"batch": 8}])
    assert [case.name for case in found] == [
        "fp32 threads=1 batch=1",
        "fp32 threads=1 batch=8",
        "fp32 threads=2 batch=1",
        "fp32 threads=2 batch=8",
    ]
    assert len({case.id for case in found}) == 4


def test_settings_that_do_not_vary_are_not_in_the_name() -> None:
    (case,) = plan.cases([variant("fp32")], MeasureSection(), [{"batch": 1}])
    assert case.name == "fp32"
