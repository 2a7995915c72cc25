from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper

from harness.errors import DataError
from harness.quantize.data import load as data
from harness.quantize.model.model import open_model
from harness.study.datasets import DataTable
from tests.models import make_model

if TYPE_CHECKING:
    from harness.quantize.data.load import Purpose, Samples
    from harness.quantize.model.model import SourceModel

RATE = 8000
FEATURES = """
import numpy as np

def energy(samples, rate):
    assert samples.dtype == np.float32 and samples.ndim == 1 and rate == 8000
    return np.abs(samples[: 4 * 25].reshape(4, 25)).mean(1)

def windows(samples, rate):
    for start in range(0, len(samples) - 3, 40):
        yield samples[None, start : start + 4]

def channels(samples, rate):
    assert samples.ndim == 2
    return samples[:4, 0]

def everything(samples, rate):
    return {"x": samples[None, :4], "rate": np.array(rate)}

def ragged(samples, rate):
    return [samples[None, :size] for size in (3, 4, 5)]

def fails(samples, rate):
    raise ZeroDivisionError("by zero")

def fails_late(samples, rate):
    yield samples[None, :4]
    raise ZeroDivisionError("by zero")

def doubles(samples, rate):
    return samples[None, :4].astype(np.float64)

def text(samples, rate):
    return "four"

calls = []

def forgetful(samples, rate):
    calls.append(1)
    return samples[None, :4] + np.float32(len(calls))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "my_features.py").write_text(FEATURES, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "my_features", raising=False)


@pytest.fixture
def model(tmp_path: Path) -> SourceModel:
    proto = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["batch", 4]}, {"y": ["batch", 4]})
    onnx.save(proto, tmp_path / "model.onnx")
    return open_model(tmp_path / "model.onnx")


@pytest.fixture
def rated(tmp_path: Path) -> SourceModel:
    """A model that wants the rate, too, and takes any length."""
    proto = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["batch", "time"]}, {"y": ["batch", "time"]})
    proto.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    onnx.save(proto, tmp_path / "rated.onnx")
    return open_model(tmp_path / "rated.onnx")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three recordings of 100 frames: of yes, yes and no."""
    rng = np.random.default_rng(0)
    for name in ("no/a", "yes/a", "yes/b"):
        path = tmp_path / "speech" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 100).astype(np.float32), RATE, subtype="FLOAT")
    return tmp_path / "speech"


def load(model: SourceModel, speech: Path, batch: int = 1, what: Purpose = "evaluation", **keys: Any) -> Samples:
    return data.load(DataTable(audio=str(speech), **keys), model, {"batch": batch}, what=what)


def test_features_of_each_recording(model: SourceModel, speech: Path) -> None:
    samples = load(model, speech, features="my_features:energy")
    assert [feed["x"].shape for feed in samples.feeds] == [(1, 4)] * 3
    assert samples.feeds[0]["x"].min() > 0
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 1]


def test_rows_are_put_together(model: SourceModel, speech: Path) -> None:
    samples = load(model, speech, batch=2, features="my_features:energy")
    assert [feed["x"].shape for feed in samples.feeds] == [(2, 4)]
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1]
    assert samples.notes == ("the last 1 of 3 samples do not fill a batch of 2 and are left out",)


def test_several_inputs_of_one_recording(model: SourceModel, speech: Path) -> None:
    samples = load(model, speech, features="my_features:windows")
    assert len(samples.feeds) == 9
    recorded, _ = soundfile.read(speech / "no" / "a.wav", dtype="float32")
    np.testing.assert_array_equal(samples.feeds[1]["x"], recorded[None, 40:44])
    assert samples.labels is not None
    assert samples.labels.tolist() == [0] * 3 + [1] * 6


def test_samples_as_they_are(rated: SourceModel, speech: Path) -> None:
    table = DataTable(audio=str(speech / "no" / "a.wav"), fixed={"rate": RATE})
    samples = data.load(table, rated, {"batch": 1, "time": 100}, what="evaluation")
    assert {name: array.shape for name, array in samples.feeds[0].items()} == {"x": (1, 100), "rate": ()}
    assert int(samples.feeds[0]["rate"]) == RATE


def test_plain_text_means_the_same(tmp_path: Path, speech: Path) -> None:
    proto = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": [1, 100]}, {"y": [1, 100]})
    onnx.save(proto, tmp_path / "wave.onnx")
    samples = data.load(str(speech), open_model(tmp_path / "wave.onnx"), {}, what="calibration")
    assert len(samples.feeds) == 3


def test_features_may_give_every_input(rated: SourceModel, speech: Path) -> None:
    table = DataTable(audio=str(speech), features="my_features:everything")
    samples = data.load(table, rated, {"batch": 1, "time": 4}, what="evaluation")
    assert set(samples.feeds[0]) == {"x", "rate"}


def test_lengths_may_differ_in_calibration(rated: SourceModel, speech: Path) -> None:
    table = DataTable(audio=str(speech), features="my_features:ragged", fixed={"rate": RATE})
    dims = {"batch": 1, "time": 4}
    samples = data.load(table, rated, dims, what="calibration")
    assert [feed["x"].shape[1] for feed in samples.feeds] == [3, 4, 5] * 3
    with pytest.raises(DataError, match=r"rated.onnx wants float32 \[1, 4\] for each run; .*only calibration data may differ"):
        data.load(table, rated, dims, what="evaluation")


def test_two_channels(model: SourceModel, speech: Path) -> None:
    soundfile.write(speech / "no" / "a.wav", np.zeros((100, 2), np.float32), RATE)
    with pytest.raises(DataError, match=r"no/a\.wav: has 2 channels, and 1 is wanted; mix it down, or set channels"):
        load(model, speech, features="my_features:energy")
    samples = load(model, speech / "no", features="my_features:channels", channels=2)
    assert samples.feeds[0]["x"].shape == (1, 4)


def test_rates(model: SourceModel, speech: Path) -> None:
    with pytest.raises(
        DataError, match=r"no/a\.wav: is sampled at 8000 Hz, and the study says 16000 Hz; resample it, or set rate"
    ):
        load(model, speech, features="my_features:energy", rate=16000)
    soundfile.write(speech / "yes" / "b.wav", np.zeros(100, np.float32), 44100)
    with pytest.raises(DataError, match=r"yes/b\.wav: is sampled at 44100 Hz, and .*no/a\.wav at 8000 Hz"):
        load(model, speech, features="my_features:windows")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", r"no/a\.wav: features .*my_features:fails: raised ZeroDivisionError: by zero \(line \d+ of .*my_features.py\)"),
        ("fails_late", "raised ZeroDivisionError: by zero"),
        ("doubles", r"'x' is float64 \[1, 4\]; model.onnx wants float32 .*astype\('float32'\)"),
        ("text", r"features .* is str, not a dictionary of numpy arrays by input name \(x\)"),
        ("widows", "has no callable 'widows'; did you mean 'windows'?"),
        ("ragged", r"'x' is float32 \[1, 3\]; model.onnx wants float32 \[1, 4\]"),
    ],
)
def test_features_that_fail(model: SourceModel, speech: Path, name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(model, speech, features=f"my_features:{name}")


def test_features_must_repeat_themselves(model: SourceModel, speech: Path) -> None:
    samples = load(model, speech, features="my_features:forgetful")
    with pytest.raises(DataError, match="gave 3 samples each time, but not the same values"):
        list(samples.feeds)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"text that is no recording"])
def test_damaged(model: SourceModel, speech: Path, content: bytes) -> None:
    (speech / "yes" / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"yes/a\.wav: damaged, or not a recording: .*; remove it from the folder, or replace it"):
        load(model, speech, features="my_features:energy")


def test_silence_of_no_length(model: SourceModel, speech: Path) -> None:
    soundfile.write(speech / "yes" / "a.wav", np.zeros(0, np.float32), RATE)
    with pytest.raises(DataError, match=r"yes/a\.wav: has no samples"):
        load(model, speech, features="my_features:energy")


def test_missing_and_empty(model: SourceModel, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, said in (("none", "no such file or folder"), ("empty", r"holds no recording \(\.wav, \.flac, \.ogg\)")):
        with pytest.raises(DataError, match=said):
            load(model, tmp_path / folder)


def test_an_array_for_several_inputs(rated: SourceModel, speech: Path) -> None:
    with pytest.raises(DataError, match="gave one array, and the inputs are x, rate; give the others in fixed"):
        data.load(DataTable(audio=str(speech), features="my_features:energy"), rated, {"batch": 1, "time": 4}, what="evaluation")


def test_which_of_several_inputs(rated: SourceModel, speech: Path) -> None:
    with pytest.raises(DataError, match="which input are the recordings for"):
        data.load(DataTable(audio=str(speech)), rated, {"batch": 1, "time": 4}, what="evaluation")
