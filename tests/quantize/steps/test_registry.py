"""The registry, what a study may skip, and the table in docs/preparation.md are the same steps."""

from __future__ import annotations

from typing import get_args

import pytest

from harness.quantize.step import Step
from harness.quantize.steps.registry import STEPS
from harness.study.keys import StepKey
from harness.study.specs import SPECS
from tests.conftest import ROOT

HEADING = "| step | recipes | what it does | why (source) | cost in size and speed |\n| --- | --- | --- | --- | --- |\n"


def rows() -> str:
    """The table of all steps."""
    return "".join(
        f"| `{step.key}` | {', '.join(method for method in SPECS if method in step.methods)} | {step.summary} | {step.source} | {step.cost} |\n"
        for step in STEPS
    )


def test_a_study_may_skip_exactly_the_steps_there_are() -> None:
    assert sorted(get_args(StepKey)) == sorted(step.key for step in STEPS)


def test_the_page_has_a_row_for_each_step() -> None:
    page = (ROOT / "docs" / "preparation.md").read_text(encoding="utf-8")
    assert HEADING + rows() in page, f"write these rows:\n{rows()}"


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.key)
def test_a_step_does_something_for_recipes_that_can_skip_it(step: Step) -> None:
    assert step.rewrite is not None or step.decide is not None or step.patch is not None
    assert (step.find is None) == (step.rewrite is None)
    assert [method for method in step.methods if "skip_steps" not in SPECS[method].own_keys()] == []
