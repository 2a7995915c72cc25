from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import StudyError
from harness.study import study
from tests.conftest import DIGITS

LEAST = 'name = "s"\n[model]\npath = "m.onnx"\n'


def load(text: str) -> study.Study:
    path = Path("study.toml")
    path.write_text(text)
    return study.load(path)


def test_defaults_and_paths() -> None:
    found = load(LEAST + 'calibration = "data/c.npz"\n')
    assert found.model.path == Path.cwd() / "m.onnx"
    assert found.model.calibration == str(Path.cwd() / "data/c.npz")
    assert found.devices.select == ["local"]
    assert found.variants.methods == ["fp32", "fp16", "dynamic", "static"]
    assert found.measure.max_time == 300


@pytest.mark.parametrize("source", ["random", "my_module:feeds"])
def test_data_that_is_no_path_stays(source: str) -> None:
    assert load(LEAST + f'calibration = "{source}"\n').model.calibration == source


def test_a_folder_stands_for_its_study() -> None:
    assert study.load(DIGITS).name == "digits"


def test_the_design_documents_study_is_read() -> None:
    found = load(
        LEAST
        + """dims = { batch = [1, 8] }
[[variant]]
name = "conv-only"
method = "static"
op_types = ["Conv", "Mul"]
exclude_nodes = ["/head/*"]
[measure]
max_time = "5m"
[[claim]]
text = "QOperator is faster than QDQ on ARM"
faster = { format = "QOperator" }
than = { format = "QDQ" }
on = { arch = "aarch64" }
[gate]
metric = "latency.median"
max_regression = 0.05
"""
    )
    assert found.model.dims == {"batch": [1, 8]}
    assert found.measure.max_time == 300
    assert found.claim[0].on == {"arch": "aarch64"}
    assert found.gate is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LEAST + "[measure]\nthread = [1]\n", "study.toml:5: unknown key 'measure.thread'; did you mean 'threads'?"),
        (LEAST + "[varants]\n", "study.toml:4: unknown key 'varants'; did you mean 'variants'?"),
        (
            LEAST + '[variants]\nformats = ["QDQ", "qop"]\n',
            "study.toml:5: 'variants.formats.1': input should be 'QDQ' or 'QOperator', not 'qop'",
        ),
        (
            LEAST + "dims = { batch = -1 }\n",
            "study.toml:4: 'model.dims.batch.0': input should be greater than or equal to 0, not -1",
        ),
        (
            LEAST + '[measure]\nmax_time = "soon"\n',
            "study.toml:5: 'measure.max_time': a duration must be a number above zero with ms, s, m or h",
        ),
        (LEAST + "[measure]\nrounds = 0\n", "study.toml:5: 'measure.rounds'"),
        ('name = "s"\n', "study.toml: 'model' is missing"),
        ('name = "../up"\n[model]\npath = "m"\n', "study.toml:1: 'name': a name has at most 100 letters"),
        (LEAST + "[variants]\nmethods = []\n", "the study has no variants"),
        (
            LEAST + '[[variant]]\nmethod = "static"\nformat = "QDQ"\nwieght = "QInt8"\n',
            "study.toml:7: unknown key 'variant.0.wieght'; did you mean 'weight'?",
        ),
        ("name = \n", "study.toml: not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        load(text)
    assert words in str(caught.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(StudyError) as caught:
        load(LEAST + "[measure]\nthread = [1]\nrounds = -1\n")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "words"), [("none.toml", "no such file"), ("bytes.toml", "not UTF-8"), (".", "study.toml: no such file")]
)
def test_files_that_are_no_study(name: str, words: str) -> None:
    Path("bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match=words):
        study.load(Path(name))


@pytest.mark.parametrize(
    ("text", "value"), [("5m", 300.0), ("1.5h", 5400.0), ("250ms", 0.25), ("90", 90.0), (90, 90.0), ("2 s", 2.0)]
)
def test_durations(text: object, value: float) -> None:
    assert study.seconds(text) == value


@given(st.one_of(st.text(max_size=8), st.floats(), st.integers(), st.booleans(), st.none()))
def test_a_duration_is_above_zero_or_refused(value: object) -> None:
    with contextlib.suppress(ValueError):
        assert study.seconds(value) > 0


@pytest.mark.parametrize("value", ["", "0", "-1s", "5 lightyears", "nan", "1..5s", True, None])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="such as '5m'"):
        study.seconds(value)


@pytest.mark.parametrize(("path", "name"), [("ch_PP-OCR v4.onnx", "ch_PP-OCR-v4"), ("-.onnx", "model"), ("a/ünï.onnx", "n")])
def test_a_bare_model_gives_a_study_a_name(path: str, name: str) -> None:
    assert study.for_model(Path(path)).name == name
