from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.errors import DataError
from harness.quantize.build import build
from harness.quantize.data import feeds
from harness.quantize.data import load as data
from harness.quantize.model.model import open_model
from harness.study import study
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.quantize.data.load import Purpose, Samples
    from harness.quantize.model.model import SourceModel

    Write = Callable[[str], str]

SIZED = """
import numpy as np

class Data:
    def __init__(self, count=4, promised=4):
        self.count, self.promised = count, promised
    def __len__(self):
        return self.promised
    def __iter__(self):
        for number in range(self.count):
            yield {"x": np.full((2, 3), number, np.float32)}
"""


@pytest.fixture
def model(tmp_path: Path) -> SourceModel:
    proto = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["batch", "time"]}, {"y": ["batch", "time"]})
    onnx.save(proto, tmp_path / "model.onnx")
    return open_model(tmp_path / "model.onnx")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module; gives how its ``f`` is called."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(f"import numpy as np\n{text}", encoding="utf-8")
        return f"{path}:f"

    return write


def load(source: str, model: SourceModel, what: Purpose = "calibration") -> Samples:
    return data.load(source, model, {"batch": 2, "time": 3}, what=what)


def test_a_generator_is_called_for_each_pass(model: SourceModel, write: Write) -> None:
    source = write("def f():\n    for n in range(3):\n        yield {'x': np.full((2, 3), n, np.float32)}\n")
    samples = load(source, model)
    assert len(samples.feeds) == 3
    for _ in range(2):
        assert [float(feed["x"][0, 0]) for feed in samples.feeds] == [0, 1, 2]
    assert float(samples.feeds[1]["x"][0, 0]) == 1
    assert float(samples.feeds[-1]["x"][0, 0]) == 2
    assert [float(feed["x"][0, 0]) for feed in samples.feeds[1:]] == [1, 2]
    with pytest.raises(IndexError):
        samples.feeds[3]


@pytest.mark.parametrize("made", ["Data", "def f(): return Data()"])
def test_an_object_with_a_length(model: SourceModel, write: Write, made: str) -> None:
    samples = load(write(f"{SIZED}\n{made if made.startswith('def') else 'f = Data'}\n"), model)
    assert len(samples.feeds) == 4
    assert len(list(samples.feeds)) == 4


def test_plain_arrays_for_the_only_input(model: SourceModel, write: Write) -> None:
    samples = load(write("def f(): return [np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)]\n"), model)
    assert [float(feed["x"].max()) for feed in samples.feeds] == [0, 1]


def test_labels(model: SourceModel, write: Write) -> None:
    text = "def f():\n    for n in range(3):\n        yield {'x': np.full((2, 3), n, np.float32), 'labels': np.array([n, 7])}\n"
    samples = load(write(text), model, "evaluation")
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 7, 1, 7, 2, 7]
    assert set(samples.feeds[0]) == {"x"}
    assert load(write(text), model).labels is None


def test_shapes_may_differ_in_calibration(model: SourceModel, write: Write) -> None:
    source = write("def f():\n    for n in (3, 5, 1):\n        yield {'x': np.zeros((n, n + 1), np.float32) + n}\n")
    assert [feed["x"].shape for feed in load(source, model).feeds] == [(3, 4), (5, 6), (1, 2)]
    with pytest.raises(DataError, match="only calibration data may differ in them"):
        load(source, model, "evaluation")


def test_static_variants_of_samples_of_any_length(tmp_path: Path, write: Write) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1])]
    onnx.save(make_model(nodes, {"x": [1, 2, "time"]}, {"y": [1, 4, "time"]}, weights), tmp_path / "conv.onnx")
    write(
        "def f():\n    for n in range(9):\n"
        "        yield np.random.default_rng(n).standard_normal((1, 2, 5 + n)).astype(np.float32)\n"
    )
    (tmp_path / "study.toml").write_text(
        'name = "s"\n[model]\npath = "conv.onnx"\ndims = { time = 6 }\ncalibration = "mine:f"\n[variants]\nmethods = ["static"]\n'
        'formats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\ncalibrations = ["MinMax", "Percentile", "Entropy"]\n',
        encoding="utf-8",
    )
    made = build(study.load(tmp_path), tmp_path / "out")
    assert [variant.reason for variant in made] == [None] * 4
    assert [variant.state for variant in made] == ["made"] * 4


def test_fixed_dimensions_may_not_differ(tmp_path: Path, write: Write) -> None:
    proto = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["batch", 3]}, {"y": ["batch", 3]})
    onnx.save(proto, tmp_path / "fixed.onnx")
    source = write("def f():\n    yield np.zeros((1, 3), np.float32)\n    yield np.zeros((1, 4), np.float32)\n")
    with pytest.raises(DataError, match=r"item 1: 'x' is float32 \[1, 4\]; fixed.onnx wants float32 \[1, 3\]"):
        data.load(source, open_model(tmp_path / "fixed.onnx"), {"batch": 1}, what="calibration")


def test_one_sample_is_held_at_a_time(model: SourceModel, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[int] = set()
    most = 0
    whole = feeds.add_to

    def watch(digest: Any, feed: dict[str, np.ndarray]) -> None:
        nonlocal most
        number = float(feed["x"][0, 0])
        alive.add(int(number))
        weakref.finalize(feed["x"], alive.discard, int(number))
        most = max(most, len(alive))
        whole(digest, feed)

    monkeypatch.setattr(feeds, "add_to", watch)
    samples = load(write("def f():\n    for n in range(50):\n        yield np.full((2, 3), n, np.float32)\n"), model)
    for _ in samples.feeds:
        pass
    assert most <= 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f():\n    return []\n", "yielded nothing"),
        ("def f():\n    return 3\n", "returned int; let it yield one dictionary of arrays for each run"),
        ("def f():\n    return {'x': np.zeros((2, 3))}\n", "returned dict; let it yield one dictionary"),
        ("def f():\n    raise KeyError('oh')\n", r"mine.py:f: raised KeyError: 'oh' \(line 3 of .*mine.py\)"),
        ("def f():\n    yield np.zeros((2, 3), np.float32)\n    1 / 0\n", "item 1: raised ZeroDivisionError"),
        (
            "def f():\n    yield np.array([[None, 1, 2]] * 2)\n",
            "'x' is object .* it holds Python objects; make an array of numbers",
        ),
        ("def f():\n    yield np.zeros((2, 3))\n", r"item 0: 'x' is float64 \[2, 3\]; .*astype\('float32'\)"),
        ("def f():\n    yield {'x': np.zeros((2, 3), np.float32), 'y': np.ones(1)}\n", "it has 'y', which is not an input"),
        ("def f():\n    yield np.full((2, 3), np.nan, np.float32)\n", "'x' of sample 0 holds NaN or infinity"),
        ("def f(x):\n    yield x\n", r"raised TypeError: f\(\) missing 1 required positional argument"),
        ("import nothing_of_this_name\n", "can't be imported: ModuleNotFoundError"),
        ("f = 3\n", "has no callable 'f'"),
        (f"{SIZED}\ndef f(): return Data(3, 4)\n", "says that it holds 4 samples, and gave 3"),
    ],
)
def test_refusals(model: SourceModel, write: Write, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(write(text), model)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([3, 2], "gave 3 samples at first, and 2 the next time"),
        ([2, 3], "gave 2 samples at first, and more the next time"),
        ([2, 0], "gave 2 samples at first, and 0 the next time"),
    ],
)
def test_another_number_the_second_time(model: SourceModel, write: Write, counts: list[int], said: str) -> None:
    text = f"counts = {counts}\ndef f():\n    for n in range(counts.pop(0)):\n        yield np.ones((2, 3), np.float32)\n"
    samples = load(write(text), model)
    with pytest.raises(DataError, match=f"{said}; calibration reads the data more than once"):
        list(samples.feeds)


def test_other_values_the_second_time(model: SourceModel, write: Write) -> None:
    samples = load(write("rng = np.random.default_rng(0)\ndef f():\n    yield rng.random((2, 3), np.float32)\n"), model)
    with pytest.raises(
        DataError, match=r"gave 1 samples each time, but not the same values; .*fix the seeds of its random numbers"
    ):
        list(samples.feeds)


def test_without_an_end(model: SourceModel, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "ENDLESS", 20)
    with pytest.raises(DataError, match="has yielded 20 samples and does not end; make it end"):
        load(write("def f():\n    while True:\n        yield np.ones((2, 3), np.float32)\n"), model)


def test_labels_of_some_only(model: SourceModel, write: Write) -> None:
    text = "def f():\n    yield {'x': np.ones((2, 3), np.float32), 'labels': np.array([1, 2])}\n    yield np.ones((2, 3), np.float32)\n"
    with pytest.raises(DataError, match="item 1: has no 'labels', while others have"):
        load(write(text), model, "evaluation")
    few = "def f():\n    yield {'x': np.ones((2, 3), np.float32), 'labels': np.array([1])}\n"
    with pytest.raises(DataError, match="1 labels for 2 rows"):
        load(write(few), model, "evaluation")


def test_neighbours_can_be_imported(model: SourceModel, write: Write, tmp_path: Path) -> None:
    (tmp_path / "my_neighbour_of_feeds.py").write_text("SIZE = 3\n", encoding="utf-8")
    source = write("import my_neighbour_of_feeds as n\ndef f():\n    yield np.ones((2, n.SIZE), np.float32)\n")
    assert len(load(source, model).feeds) == 1


def test_a_file_that_is_not_there(model: SourceModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be imported: ModuleNotFoundError: no such file"):
        load(f"{tmp_path / 'none.py'}:f", model)
