from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.debug.exclusion import named
from harness.debug.proposal import as_toml
from harness.quantize import matrix
from harness.quantize.recipe import Recipe
from harness.study.specs import VariantSpec
from harness.study.study import ModelSection, Study
from harness.study.variants import VariantsSection


def recipe_of(**fields: object) -> Recipe:
    spec = VariantSpec.model_validate(fields)
    study = Study(
        name="t", model=ModelSection.model_validate({"path": "m.onnx"}), variants=VariantsSection(methods=[]), variant=[spec]
    )
    return matrix.plan(study)[-1]


def pasted(text: str) -> Recipe:
    (table,) = tomllib.loads(text)["variant"]
    return recipe_of(**table)


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "static"},
        {"method": "static", "format": "QOperator", "weight": "QUInt8", "op_types": ["Conv", "MatMul"], "reduce_range": True},
        {"method": "static", "per_channel": True, "calibration": "Percentile", "calibration_options": {"percentile": 99.9}},
        {"method": "static", "extra_options": {"ActivationSymmetric": True, "MinimumRealRange": 1e-4}, "nodes": ["/a/*"]},
        {"method": "dynamic", "weight": "QUInt8", "exclude_nodes": ["x"]},
        {"method": "fp16", "exclude_op_types": ["Resize"], "keep_io_types": False},
        {"method": "nbits", "bits": 8, "block_size": 64, "symmetric": False},
    ],
)
def test_a_pasted_proposal_is_the_recipe(fields: dict[str, object]) -> None:
    recipe = named(recipe_of(**fields), ["first", "second"])
    assert pasted(as_toml(recipe)) == recipe


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
def test_any_names_of_nodes_can_be_pasted(names: list[str]) -> None:
    recipe = named(recipe_of(method="static"), names)
    assert pasted(as_toml(recipe)) == recipe


def test_a_name_with_a_globs_signs_means_itself() -> None:
    assert named(recipe_of(method="static"), ["conv[0]*"]).exclude_nodes == ("conv[[]0][*]",)


def test_long_names_stay_within_what_a_study_takes() -> None:
    recipe = recipe_of(method="static", name="n" * 100)
    assert len(named(recipe, ["a"]).name) == 100
