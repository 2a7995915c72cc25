"""Model files: one, or two when the model is large; here every model is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # has no stubs
from onnx import TensorProto, helper

from harness import files
from harness.quantize.model import storage
from harness.quantize.reasons import reason_of
from tests.models import images, make_model, tiny_cnn


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LARGE", 100)
    monkeypatch.setattr(storage, "LEAST_TENSOR", 64)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with nothing in it."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def outputs(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": images(2)})[0])


def written(path: Path, *, seed: int = 0) -> Path:
    """Write a large model: tiny_cnn, with another first weight for another seed."""
    model = onnx.load(tiny_cnn(path))
    model.graph.initializer[0].raw_data = np.random.default_rng(seed).normal(size=36).astype(np.float32).tobytes()
    path.unlink()
    storage.write(model, path)
    return path


def listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_hash_covers_both_files(place: Path) -> None:
    (place / "one").mkdir()
    (place / "two").mkdir()
    one, two = written(place / "one" / "m.onnx"), written(place / "two" / "m.onnx", seed=1)
    found, other = storage.describe(one), storage.describe(two)
    assert found.data is not None
    assert listed(one.parent) == {"m.onnx", found.data}
    data = (one.parent / found.data).read_bytes()
    assert found == storage.ModelFile(hashlib.sha256(one.read_bytes()).hexdigest(), one.stat().st_size + len(data), found.data)
    assert hashlib.sha256(data).hexdigest() == found.data
    assert found.sha256 != other.sha256, "they differ in a weight alone, which the .onnx file does not hold"
    assert storage.describe(written(one)) == found, "it is the same again"


def test_it_computes_the_same(place: Path) -> None:
    path = tiny_cnn(place / "m.onnx")
    before = outputs(path)
    storage.write(onnx.load(path), path)
    assert np.array_equal(outputs(path), before)
    onnx.checker.check_model(str(path))
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    assert {tensor.name for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL} == {"w1", "w2"}


@pytest.mark.parametrize("one_file", [True, False])
def test_what_tools_write_is_settled(place: Path, one_file: bool) -> None:
    path = tiny_cnn(place / "m.onnx")
    before = outputs(path)
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, all_tensors_to_one_file=one_file, location="m.onnx.data" if one_file else None,
        size_threshold=64,
    )  # fmt: skip
    storage.settle(path)
    found = storage.describe(path)
    assert listed(place) == {"m.onnx", found.data}
    assert np.array_equal(outputs(path), before)


def test_what_is_small_becomes_one_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_cnn(place / "m.onnx")
    before = onnx.load(path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    monkeypatch.setattr(storage, "LARGE", 10**6)
    storage.settle(path)
    assert listed(place) == {"m.onnx"}
    assert onnx.load(path) == before
    assert storage.describe(path).data is None


def test_other_formats_are_left_alone(place: Path) -> None:
    path = place / "m.ort"
    path.write_bytes(b"\x18\0\0\0ORTM rest")
    storage.settle(path)
    assert storage.describe(path) == storage.ModelFile(hashlib.sha256(path.read_bytes()).hexdigest(), 13, None)


def test_copies_and_moves_take_both(place: Path) -> None:
    path = written(place / "m.onnx")
    found, before = storage.describe(path), outputs(path)
    for name in ("copied", "moved"):
        (place / name).mkdir()
    for _ in range(2):
        storage.copy(path, place / "copied" / "a.onnx", found.data)
    storage.move(path, place / "moved" / "b.onnx", found.data)
    assert listed(place) == {"copied", "moved"}
    for copied in (place / "copied" / "a.onnx", place / "moved" / "b.onnx"):
        assert listed(copied.parent) == {copied.name, found.data}
        assert storage.is_whole(copied, found.sha256, found.data)
        assert np.array_equal(outputs(copied), before)


def test_a_copy_heals_what_is_there(place: Path) -> None:
    path = written(place / "m.onnx")
    data = storage.describe(path).data
    assert data
    target = place / "copied"
    target.mkdir()
    (target / data).write_bytes(bytes((place / data).stat().st_size))
    storage.copy(path, target / "m.onnx", data)
    assert storage.is_whole(target / "m.onnx", files.sha256(path), data)
    (target / data).write_bytes(b"other")
    assert not storage.is_whole(target / "m.onnx", files.sha256(path), data)


def test_tensors_go_with_the_last_model_that_has_them(place: Path) -> None:
    first, second = written(place / "a.onnx"), written(place / "b.onnx")
    data = storage.describe(first).data
    assert listed(place) == {"a.onnx", "b.onnx", data}, "they are the same"
    storage.remove(first)
    assert listed(place) == {"b.onnx", data}
    (place / "new").mkdir()
    third = written(place / "new" / "b.onnx", seed=1)
    other = storage.describe(third).data
    storage.move(third, second, other)
    assert listed(place) == {"new", "b.onnx", other}
    storage.remove(second)
    assert listed(place) == {"new"}
    storage.remove(second)


def test_what_is_no_model_is_removed_all_the_same(place: Path) -> None:
    path = place / "m.onnx"
    path.write_bytes(b"\x08no model")
    storage.remove(path)
    assert not path.exists()


def test_types_without_a_size_count_for_nothing(place: Path) -> None:
    text = TensorProto(name="t", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, {"y": [1]})
    model.graph.initializer.append(text)
    model.graph.initializer.append(TensorProto(name="u", data_type=0))
    storage.write(model, place / "m.onnx")
    assert listed(place) == {"m.onnx"}


def test_what_is_too_large_for_a_tool_says_so() -> None:
    said = reason_of(EncodeError("Failed to serialize proto"))
    assert said.startswith("EncodeError: Failed to serialize proto: the tool writes the model as one message of Protocol Buffers")
