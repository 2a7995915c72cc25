from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StudyError
from harness.study import study
from harness.study.datasets import DataTable
from harness.study.variants import StaticSpec

LEAST = 'name = "s"\n[model]\npath = "m.onnx"\n'


def load(text: str, folder: str = ".") -> study.Study:
    path = Path(folder, "study.toml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(LEAST + text, encoding="utf-8")
    return study.load(path)


def table(text: str) -> DataTable:
    found = load(f"calibration = {text}\n").model.calibration
    assert isinstance(found, DataTable)
    return found


def test_paths_in_a_table_are_relative_to_the_study() -> None:
    found = load('calibration = { images = "photos", labels = "classes.csv" }\n', "there").model.calibration
    assert isinstance(found, DataTable)
    there = Path.cwd() / "there"
    assert (found.images, found.labels) == (str(there / "photos"), str(there / "classes.csv"))
    assert found.kind == "images"
    assert str(found) == f"images {there / 'photos'}"


@pytest.mark.parametrize("word", ["folders", "none"])
def test_words_for_labels_are_no_paths(word: str) -> None:
    assert table(f'{{ images = "photos", labels = "{word}" }}').labels == word


def test_a_module_beside_the_study_is_found_from_everywhere() -> None:
    Path("there").mkdir()
    Path("there/mine.py").write_text("", encoding="utf-8")
    found = load('calibration = "mine:feeds"\nevaluation = { audio = "w", features = "mine:mel" }\n', "there").model
    file = Path.cwd() / "there" / "mine.py"
    assert found.calibration == f"{file}:feeds"
    assert isinstance(found.evaluation, DataTable)
    assert found.evaluation.features == f"{file}:mel"


@pytest.mark.parametrize("text", ["random", "random:uniform(0, 1)", "elsewhere:feeds", "a.b:feeds"])
def test_what_is_no_path_stays(text: str) -> None:
    assert load(f'calibration = "{text}"\n').model.calibration == text
    spelled = load(f'[[variant]]\nmethod = "static"\ncalibration_data = "{text}"\n').variant[0]
    assert isinstance(spelled, StaticSpec)
    assert spelled.calibration_data == text


def test_a_table_of_its_own() -> None:
    found = load('[model.calibration]\nrandom = { ids = "integers(0, 9)" }\nsamples = 3\n').model.calibration
    assert isinstance(found, DataTable)
    assert (found.random, found.samples) == ({"ids": "integers(0, 9)"}, 3)


def test_a_table_survives_the_record_of_a_run() -> None:
    found = load('calibration = { images = "photos", size = [2, 3], mean = 0.5 }\nevaluation = "e.npz"\n')
    assert study.Study.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{ imags = "x" }', "study.toml:4: unknown key 'model.calibration.imags'; did you mean 'images'?"),
        ('{ images = "x", layuot = "NCHW" }', "unknown key 'model.calibration.layuot'; did you mean 'layout'?"),
        ('{ images = "x", layout = "NCWH" }', "'model.calibration.layout': input should be 'NCHW' or 'NHWC', not 'NCWH'"),
        ("3", "study.toml:4: 'model.calibration': input should be a valid string, not 3"),
        ("{ size = [2, 2] }", "data need exactly one of the keys images, audio, random, arrays; none is given"),
        ('{ images = "x", audio = "y" }', "images and audio are given"),
        ('{ images = "x", seed = 1 }', "'seed' has no effect with images; the keys for images are: samples, labels"),
        ('{ arrays = "x", seed = 1 }', "'seed' has no effect with arrays; the keys for arrays are: none"),
        ('{ images = "x", size = [224] }', "'model.calibration.size'"),
        ('{ images = "x", channels = 3 }', "channels must be 'RGB', 'BGR' or 'grey' for images"),
        ('{ audio = "x", channels = "RGB" }', "channels must be a number for recordings"),
        ('{ images = "x", short_side = 256 }', 'short_side needs resize = "crop"'),
        ('{ images = "x", std = [1, 0, 1] }', "std can't be 0, because the values are divided by it"),
        ('{ audio = "x", features = "mel" }', "features must be 'module:callable', not"),
        ('{ random = "zeros", samples = 0 }', "'model.calibration.samples'"),
    ],
)
def test_faults_are_told_with_their_line(text: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        load(f"calibration = {text}\n")
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(Path("study.toml")))
