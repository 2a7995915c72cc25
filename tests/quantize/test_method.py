"""A method is one object: a method in one file of the tests takes part in everything."""

from __future__ import annotations

import pickle
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from harness.debug.proposal import as_toml
from harness.errors import StudyError
from harness.quantize import matrix, method
from harness.quantize.build import build
from harness.quantize.model.model import read_model
from harness.quantize.model.outline import summarize
from harness.quantize.planning.constraints import impossible
from harness.quantize.planning.sizes import file_size
from harness.quantize.recipe import Recipe, Variant, recipe_class
from harness.quantize.target_nodes import op_types, target_nodes
from harness.study import specs, study
from harness.study.claims_and_gate import ClaimSection
from tests.debug.conftest import STUDY, ruined_weight

NAME = "rounded"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One line of the registry."""
    monkeypatch.setitem(specs.MODULES, NAME, "tests.quantize.toy_method")
    yield
    specs.SPECS.pop(NAME, None)
    method._REGISTERED.pop(NAME, None)
    sys.modules.pop("tests.quantize.toy_method", None)
    recipe_class.cache_clear()


def asked(folder: Path, *lines: str) -> study.Study:
    path = folder / "study.toml"
    ruined_weight(folder / "model.onnx")
    path.write_text(
        STUDY.replace('calibration = "data.npz"\nevaluation = "data.npz"\n', "")
        + "\n".join(("[[variant]]", f'method = "{NAME}"', *lines))
    )
    return study.load(path)


def test_a_study_reads_names_and_plans_it(tmp_path: Path) -> None:
    recipes = matrix.plan(asked(tmp_path, "places = 3", "exclude_nodes = ['last']"))
    assert [recipe.name for recipe in recipes] == ["fp32", "rounded-3places-without-last"]
    toy, model = recipes[-1], summarize(read_model(tmp_path / "model.onnx"))
    assert op_types(toy) == {"MatMul"}
    assert {node.name for node in target_nodes(toy, model)} == {"good", "bad"}
    assert file_size(toy, model) == model.size
    assert impossible(toy.model_copy(update={"places": -1})) == "there are no negative places (this file)"


def test_a_wrong_key_is_named_with_the_methods_own(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="bits has no effect with rounded; the keys for rounded are: places, exclude_nodes"):
        asked(tmp_path, "bits = 4")
    with pytest.raises(StudyError, match=r"unknown key 'variant\.0\.place'; did you mean 'places'"):
        asked(tmp_path, "place = 4")
    with pytest.raises(StudyError, match="'rounde' is not a method; did you mean 'rounded'"):
        study.load(_written(tmp_path, 'method = "rounde"'))


def _written(folder: Path, line: str) -> Path:
    path = folder / "study.toml"
    path.write_text(path.read_text().replace(f'method = "{NAME}"', line))
    return path


def test_it_is_made_and_its_variant_is_kept(tmp_path: Path) -> None:
    (_, made) = build(asked(tmp_path, "places = 0"), tmp_path / "out")
    assert (made.state, made.path is not None) == ("made", True), made.reason
    assert "weights were rounded to 0 places" in made.notes
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "out" / f"{made.name}.onnx").graph.initializer
    }
    assert all((weight == weight.round()).all() for weight in weights.values())
    assert Variant.model_validate_json(made.model_dump_json()) == made
    assert pickle.loads(pickle.dumps(made.recipe)) == made.recipe


def test_a_proposal_and_a_claim_speak_of_its_keys(tmp_path: Path) -> None:
    toy = matrix.plan(asked(tmp_path, "places = 1"))[-1]
    assert tomllib.loads(as_toml(toy))["variant"] == [{"name": "rounded-1places", "method": NAME, "places": 1}]
    claim = ClaimSection.model_validate({"text": "so it is", "faster": {"method": NAME, "places": 1}, "than": {"method": "fp32"}})
    assert claim.faster == {"method": NAME, "places": 1}


def test_two_methods_cannot_have_one_name() -> None:
    class Other(specs.VariantSpec):
        """Called as a method that there is."""

        method: str = "fp32"

    with pytest.raises(ValueError, match="there are two methods called 'fp32'"):
        specs.register(Other)


def test_a_recipe_of_a_method_without_further_keys_is_a_plain_recipe() -> None:
    assert recipe_class("static") is Recipe
    assert recipe_class(NAME) is not Recipe
