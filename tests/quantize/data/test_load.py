from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.errors import DataError, ModelError
from harness.quantize.data import load as data
from harness.quantize.data.sources import ArrayFile
from harness.quantize.model.model import open_model
from tests.models import images, make_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.quantize.data.load import Purpose, Samples
    from harness.quantize.model.model import SourceModel

    Save = Callable[..., Path]


@pytest.fixture
def model(cnn: Path) -> SourceModel:
    return open_model(cnn)


@pytest.fixture
def two(tmp_path: Path) -> SourceModel:
    """A model with a batched input, a state whose axis 0 is fixed, and a scalar."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sx"], keepdims=0),
        helper.make_node("ReduceSum", ["state"], ["ss"], keepdims=0),
        helper.make_node("Add", ["sx", "ss"], ["s"]),
        helper.make_node("Cast", ["rate"], ["r"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "r"], ["y"]),
    ]
    proto = make_model(nodes, {"x": ["batch", 4], "state": [2, "batch", 3]}, {"y": []})
    proto.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    path = tmp_path / "two.onnx"
    onnx.save(proto, path)
    return open_model(path)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(name: str = "data.npz", **arrays: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **arrays)
        return path

    return write


def load(path: object, model: SourceModel, batch: int = 1, what: Purpose = "evaluation") -> Samples:
    return data.load(str(path), model, {"batch": batch}, what=what)


def refusal(path: object, model: SourceModel, batch: int = 1, what: Purpose = "evaluation") -> str:
    with pytest.raises(DataError) as caught:
        load(path, model, batch, what)
    message = str(caught.value)
    assert str(path) in message
    return message


def test_splits_rows(model: SourceModel, save: Save) -> None:
    rows = images(7)
    samples = load(save(x=rows, labels=np.arange(7)), model, batch=2)
    assert [feed["x"].shape for feed in samples.feeds] == [(2, 1, 8, 8)] * 3
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in samples.feeds]), rows[:6])
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert samples.labels.dtype == np.int64
    assert samples.notes == ("the last 1 of 7 samples do not fill a batch of 2 and are left out",)


def test_takes_whole_inputs(model: SourceModel, save: Save) -> None:
    whole = np.stack([images(2), images(2, seed=9)])
    samples = load(save(x=whole, labels=np.arange(4)), model, batch=2)
    assert len(samples.feeds) == 2
    np.testing.assert_array_equal(samples.feeds[1]["x"], whole[1])
    assert samples.labels is not None
    assert len(samples.labels) == 4


def test_several_inputs_and_a_constant(two: SourceModel, save: Save) -> None:
    arrays = {
        "x": np.ones((6, 4), np.float32),
        "state": np.zeros((3, 2, 2, 3), np.float32),
        "rate": np.array(16000),
    }
    samples = load(save(**arrays), two, batch=2)
    assert len(samples.feeds) == 3
    assert {name: value.shape for name, value in samples.feeds[2].items()} == {"x": (2, 4), "state": (2, 2, 3), "rate": ()}
    assert all(feed["rate"] == 16000 for feed in samples.feeds)


def test_scalars_can_differ(two: SourceModel, save: Save) -> None:
    path = save(x=np.ones((2, 4), np.float32), state=np.zeros((4, 1, 3), np.float32), rate=np.array([8, 16]))
    assert [int(feed["rate"]) for feed in load(path, two).feeds] == [8, 16]


def test_folder_joins_files_in_order(model: SourceModel, save: Save, tmp_path: Path) -> None:
    save("d/b.npz", x=images(1, seed=2), labels=np.array([2]))
    save("d/a.npz", x=images(2, seed=1), labels=np.array([0, 1]))
    (tmp_path / "d" / "readme.txt").write_text("not data", encoding="utf-8")
    samples = load(tmp_path / "d", model, batch=3)
    np.testing.assert_array_equal(samples.feeds[0]["x"], np.concatenate([images(2, seed=1), images(1, seed=2)]))
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2]


def test_npy(model: SourceModel, two: SourceModel, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    np.save(folder / "a.npy", images(1))
    np.save(folder / "b.npy", images(2))
    assert len(load(folder, model).feeds) == 3
    assert len(load(folder / "b.npy", model).feeds) == 2
    assert "3 inputs: x, state, rate; save an .npz" in refusal(folder / "a.npy", two)


def test_random_is_the_same_every_time(two: SourceModel) -> None:
    samples = load("random", two)
    assert (len(samples.feeds), samples.random) == (16, True)
    assert "mean nothing" in samples.notes[0]
    assert {feed["rate"].dtype.name for feed in samples.feeds} == {"int64"}
    assert {int(feed["rate"]) for feed in samples.feeds} == {0, 1}
    assert samples.digest == load("random", two).digest
    assert samples.feeds[0]["x"].dtype == np.float32


def test_labels_may_be_a_column(model: SourceModel, save: Save) -> None:
    found = load(save(x=images(4), labels=np.arange(4)[:, None]), model)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert "one integer class per row" in refusal(save(x=images(4), labels=np.eye(4, dtype=int)), model)


def test_digest_sees_values_names_and_labels(model: SourceModel, save: Save) -> None:
    digests = {
        load(save(x=images(2)), model).digest,
        load(save(x=images(2), labels=np.array([0, 1])), model).digest,
        load(save(x=images(2), labels=np.array([0, 2])), model).digest,
        load(save(x=images(2, seed=5)), model).digest,
    }
    assert len(digests) == 4


def test_calibration_ignores_labels(model: SourceModel, save: Save) -> None:
    samples = load(save(x=images(2), labels=np.array(["any", "thing", "at all"])), model, what="calibration")
    assert samples.labels is None
    assert list(samples.feeds[0]) == ["x"]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (
            {"y": images(1)},
            r"it has 'y', which is not an input; known: x; input 'x' is missing; cnn.onnx wants x float32 [batch, 1, 8, 8]",
        ),
        ({"x": images(1), "xx": images(1)}, "it has 'xx', which is not an input"),
        (
            {"x": images(1).astype(np.float64)},
            "'x' is float64 [1, 1, 8, 8]; cnn.onnx wants float32 [1, 1, 8, 8] for each run: convert it with .astype('float32')",
        ),
        ({"x": images(1)[..., :7]}, "'x' is float32 [1, 1, 8, 7]; cnn.onnx wants float32 [1, 1, 8, 8] for each run"),
        ({"x": images(1)[0]}, "the axis of the samples is missing"),
        ({"x": images(2)[None]}, "'x' is float32 [1, 2, 1, 8, 8]; cnn.onnx wants float32 [1, 1, 8, 8]"),
        ({"x": images(0)}, "'x' is [0, 1, 8, 8], not enough for one run"),
        ({"x": images(2), "labels": np.array([1])}, "1 labels for 2 rows"),
        ({"x": images(2), "labels": np.array([0.5, 1.0])}, "one integer class per row"),
        ({"x": images(2), "labels": np.array([[0, 1], [1, 0]])}, "one integer class per row"),
    ],
)
def test_data_that_do_not_fit(model: SourceModel, save: Save, arrays: dict[str, Any], said: str) -> None:
    assert said in refusal(save(**arrays), model)


def test_too_few_for_one_batch(model: SourceModel, save: Save) -> None:
    assert "not enough for one run" in refusal(save(x=images(3)), model, batch=4)


def test_different_numbers_of_samples(two: SourceModel, save: Save) -> None:
    path = save(x=np.ones((2, 4), np.float32), state=np.zeros((6, 1, 3), np.float32), rate=np.array(1))
    assert "different numbers of samples: 'x' 2, 'state' 3" in refusal(path, two)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_calibration_must_be_finite(model: SourceModel, save: Save, bad: float) -> None:
    rows = images(3)
    rows[1, 0, 2, 2] = bad
    path = save(x=rows)
    assert "'x' of sample 1 holds NaN or infinity" in refusal(path, model, what="calibration")
    assert len(load(path, model).feeds) == 3


class TestUnreadable:
    def test_missing(self, model: SourceModel, tmp_path: Path) -> None:
        assert "no such file or folder" in refusal(tmp_path / "none.npz", model)

    def test_empty_folder(self, model: SourceModel, tmp_path: Path) -> None:
        (tmp_path / "d").mkdir()
        assert "holds no .npz or .npy file" in refusal(tmp_path / "d", model)

    @pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04pickle", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00"])
    def test_not_numpy(self, model: SourceModel, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "data.npz"
        path.write_bytes(content)
        assert "not a numpy file or damaged" in refusal(path, model)

    def test_every_truncation(self, model: SourceModel, save: Save) -> None:
        path = save(x=images(1))
        whole = path.read_bytes()
        for length in range(0, len(whole), 37):
            path.write_bytes(whole[:length])
            refusal(path, model)

    def test_damaged_inside(self, model: SourceModel, save: Save) -> None:
        path = save(x=images(1))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))
        assert "not a numpy file or damaged" in refusal(path, model)

    def test_pickles_are_never_loaded(self, model: SourceModel, save: Save) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return sys.exit, ("unpickled",)

        assert "pickled Python objects" in refusal(save(x=np.array([Bomb()], dtype=object)), model)


class TestCallable:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        (tmp_path / "my_feeds.py").write_text(
            "import numpy as np\n"
            "def good():\n"
            "    for n in range(3):\n"
            "        yield {'x': np.full((2, 1, 8, 8), n, np.float32), 'labels': np.array([n, n])}\n"
            "def shape():\n    return [{'x': np.zeros((1, 1, 8, 8), np.float32)}]\n"
            "def empty():\n    return []\n"
            "def lists():\n    return [{'x': [1, 2]}]\n"
            "def raises():\n    raise KeyError('oh')\n",
            encoding="utf-8",
        )
        (tmp_path / "my_broken.py").write_text("import nothing_of_this_name\n", encoding="utf-8")

    def test_whole_feeds(self, model: SourceModel) -> None:
        samples = load("my_feeds:good", model, batch=2)
        assert [float(feed["x"].max()) for feed in samples.feeds] == [0.0, 1.0, 2.0]
        assert samples.labels is not None
        assert samples.labels.tolist() == [0, 0, 1, 1, 2, 2]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("shape", "item 0: 'x' is float32 [1, 1, 8, 8]; cnn.onnx wants float32 [2, 1, 8, 8]"),
            ("empty", "yielded nothing"),
            ("lists", "item 0: 'x' is list, not a numpy array: numpy.asarray makes one"),
            ("raises", "raised KeyError: 'oh'"),
            ("absent", "has no callable 'absent'"),
        ],
    )
    def test_refusals(self, model: SourceModel, name: str, said: str) -> None:
        assert said in refusal(f"my_feeds:{name}", model, batch=2)

    def test_import_errors(self, model: SourceModel) -> None:
        assert "module 'no_such_module' can't be imported" in refusal("no_such_module:feeds", model)
        assert "No module named 'nothing_of_this_name'" in refusal("my_broken:feeds", model)


class TestFolders:
    @pytest.fixture
    def open_time(self, tmp_path: Path) -> SourceModel:
        proto = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["batch", "time"]}, {"y": ["batch", "time"]})
        onnx.save(proto, tmp_path / "time.onnx")
        return open_model(tmp_path / "time.onnx")

    @pytest.fixture
    def folder(self, tmp_path: Path, save: Save) -> Path:
        save("d/a.npz", x=np.zeros((2, 3), np.float32))
        save("d/b.npz", x=np.ones((2, 5), np.float32))
        return tmp_path / "d"

    def test_lengths_may_differ_in_calibration(self, open_time: SourceModel, folder: Path) -> None:
        dims = {"batch": 1, "time": 4}
        samples = data.load(str(folder), open_time, dims, what="calibration")
        assert [feed["x"].shape for feed in samples.feeds] == [(1, 3), (1, 3), (1, 5), (1, 5)]
        with pytest.raises(DataError, match="only calibration data may differ"):
            data.load(str(folder), open_time, dims, what="evaluation")
        with pytest.raises(DataError, match="has other sizes in some files, and 2 rows make one run"):
            data.load(str(folder), open_time, {**dims, "batch": 2}, what="calibration")

    def test_one_file_is_held_at_a_time(self, open_time: SourceModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[str] = []
        whole = ArrayFile.read

        def watch(file: ArrayFile, names: Sequence[str]) -> dict[str, Any]:
            read.append(file.path.name)
            return whole(file, names)

        monkeypatch.setattr(ArrayFile, "read", watch)
        samples = data.load(str(folder), open_time, {"batch": 1, "time": 4}, what="calibration")
        assert read == ["a.npz", "b.npz"]
        assert [float(feed["x"][0, 0]) for feed in samples.feeds] == [0, 0, 1, 1]
        assert read == ["a.npz", "b.npz"] * 2
        assert float(samples.feeds[-1]["x"][0, 0]) == 1

    def test_a_file_that_was_changed_meanwhile(self, open_time: SourceModel, folder: Path) -> None:
        samples = data.load(str(folder), open_time, {"batch": 1, "time": 4}, what="calibration")
        np.savez(folder / "a.npz", x=np.zeros((1, 3), np.float32))
        with pytest.raises(DataError, match=r"a\.npz: 'x' was changed while it was read"):
            list(samples.feeds)

    def test_damaged_and_pickled_npy(self, open_time: SourceModel, folder: Path) -> None:
        path = folder / "c.npy"
        np.save(path, np.zeros((2, 3), np.float32))
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(DataError, match=r"c\.npy: not a numpy file or damaged"):
            data.load(str(path), open_time, {"batch": 1, "time": 3}, what="calibration")
        np.save(path, np.array([[None, 1]]), allow_pickle=True)
        with pytest.raises(DataError, match=r"c\.npy: holds pickled Python objects"):
            data.load(str(path), open_time, {"batch": 1, "time": 3}, what="calibration")


class TestSizesOfZero:
    """The first step of a decoder has a past of length 0."""

    @pytest.fixture
    def decoder(self, tmp_path: Path) -> SourceModel:
        nodes = [helper.make_node("Concat", ["past", "x"], ["y"], "join", axis=1)]
        onnx.save(make_model(nodes, {"x": ["batch", 2], "past": ["batch", "past"]}, {"y": ["batch", "all"]}), tmp_path / "d.onnx")
        return open_model(tmp_path / "d.onnx")

    def test_calibration_takes_them(self, decoder: SourceModel, save: Save, tmp_path: Path) -> None:
        for number, past in enumerate((0, 3, 0)):
            save(f"cal/{number}.npz", x=np.ones((1, 2), np.float32), past=np.ones((1, past), np.float32))
        found = data.load(str(tmp_path / "cal"), decoder, {"batch": 1, "past": 3}, what="calibration")
        assert [feed["past"].shape for feed in found.feeds] == [(1, 0), (1, 3), (1, 0)]
        assert found.profile.looks["past"].elements == 3

    def test_evaluation_takes_them_where_the_study_says_so(self, decoder: SourceModel, save: Save) -> None:
        path = save(x=np.ones((5, 1, 2), np.float32), past=np.ones((5, 1, 0), np.float32), labels=np.arange(5))
        found = data.load(str(path), decoder, {"batch": 1, "past": 0}, what="evaluation")
        assert (len(found.feeds), found.feeds[4]["past"].shape) == (5, (1, 0))
        assert found.labels is not None
        with pytest.raises(DataError, match=r"wants float32 \[1, 3\]"):
            data.load(str(path), decoder, {"batch": 1, "past": 3}, what="evaluation")

    def test_random_data(self, decoder: SourceModel) -> None:
        found = data.load("random", decoder, {"batch": 1, "past": 0}, what="calibration")
        assert found.feeds[0]["past"].shape == (1, 0)

    def test_rows_can_not_tell_runs_apart(self, tmp_path: Path, save: Save) -> None:
        nodes = [helper.make_node("Concat", ["past", "x"], ["y"], "join", axis=0)]
        onnx.save(make_model(nodes, {"past": ["past", 2], "x": [1, 2]}, {"y": ["all", 2]}), tmp_path / "d.onnx")
        model = open_model(tmp_path / "d.onnx")
        rows = save("rows.npz", past=np.ones((0, 2), np.float32), x=np.ones((4, 2), np.float32))
        with pytest.raises(DataError, match=r"first axis is 0 .* give whole inputs with one axis more: \[1, 0, 2\]"):
            data.load(str(rows), model, {"past": 0}, what="evaluation")
        whole = save("whole.npz", past=np.ones((4, 0, 2), np.float32), x=np.ones((4, 2), np.float32), labels=np.arange(4))
        found = data.load(str(whole), model, {"past": 0}, what="evaluation")
        assert (len(found.feeds), found.labels.tolist() if found.labels is not None else None) == (4, [0, 1, 2, 3])

    def test_a_sample_without_any_values(self, decoder: SourceModel, save: Save, tmp_path: Path) -> None:
        save("cal/0.npz", x=np.ones((1, 1, 2), np.float32), past=np.ones((1, 1, 3), np.float32))
        save("cal/1.npz", x=np.ones((1, 0, 2), np.float32), past=np.ones((1, 0, 3), np.float32))
        with pytest.raises(DataError, match="sample 1 is empty: all of its inputs have a size of 0"):
            data.load(str(tmp_path / "cal"), decoder, {"batch": 1, "past": 3}, what="calibration")

    def test_an_npy_without_values(self, tmp_path: Path) -> None:
        onnx.save(
            make_model([helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": [1, "n"]}, {"y": [1, "n"]}), tmp_path / "d.onnx"
        )
        (tmp_path / "cal").mkdir()
        np.save(tmp_path / "cal" / "0.npy", np.ones((1, 0), np.float32))
        with pytest.raises(DataError, match="sample 0 is empty: all of its inputs have a size of 0"):
            data.load(str(tmp_path / "cal"), open_model(tmp_path / "d.onnx"), {"n": 3}, what="calibration")

    def test_sizes_that_leave_nothing(self, decoder: SourceModel) -> None:
        with pytest.raises(ModelError, match="with batch=0 every input is empty"):
            data.load("random", decoder, {"batch": 0, "past": 3}, what="evaluation")
