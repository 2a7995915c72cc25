from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.model.model import open_model
from harness.quantize.verify import equivalence
from harness.quantize.verify.equivalence import compare, first_difference, nudged, run
from harness.quantize.verify.original import Original
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

RNG = np.random.default_rng(0)
WIDE = RNG.normal(size=(4, 300)).astype(np.float32)


def test_rounding_is_no_difference() -> None:
    noisy = WIDE * (1 + 1e-5 * RNG.normal(size=WIDE.shape)).astype(np.float32)
    assert compare({"y": WIDE}, {"y": noisy}) is None
    assert compare({"y": WIDE * 0}, {"y": WIDE * 1e-7}) is None
    half = WIDE.astype(np.float16)
    assert compare({"y": half}, {"y": half * np.float16(1.002)}) is None


def test_what_differs_is_told() -> None:
    found = compare({"y": WIDE, "z": WIDE}, {"y": WIDE * np.float32(1.5), "z": WIDE * np.float32(0.99)})
    assert found
    assert found.sentence == "output 'y' has an SQNR of 6.0 dB against the original"
    shapes = compare({"y": WIDE}, {"y": WIDE[:2]})
    assert shapes
    assert shapes.sentence == "output 'y' has the shape [2, 300], but [4, 300] in the original"
    missing = compare({"y": WIDE}, {})
    assert missing
    assert missing.sentence == "output 'y' is missing"
    integers = compare({"i": np.arange(4)}, {"i": np.array([0, 1, 3, 2])})
    assert integers
    assert integers.sentence == "output 'i' differs from the original in 2 of 4 values"


def test_a_small_slice_counts_beside_a_large_one() -> None:
    boxes = np.concatenate([RNG.uniform(0, 640, (4, 100)), RNG.uniform(0, 1, (2, 100))]).astype(np.float32)
    dead = boxes.copy()
    dead[4:] = 0
    found = compare({"y": boxes}, {"y": dead})
    assert found
    assert (found.sqnr_db or 0) > 50


def test_values_that_are_not_finite() -> None:
    holed = WIDE.copy()
    holed[0, :3] = np.nan, np.inf, -np.inf
    assert compare({"y": holed}, {"y": holed.copy()}) is None
    found = compare({"y": WIDE}, {"y": holed})
    assert found
    assert found.sentence == "output 'y' has 3 values of 1200 that are not finite, but 0 in the original"
    signs = holed.copy()
    signs[0, 1] = -np.inf
    assert compare({"y": holed}, {"y": signs})


def test_what_rounding_of_the_inputs_does_is_allowed() -> None:
    """A model that magnifies the last digits, as one that takes the difference of large numbers does."""
    other = WIDE + np.float32(0.01) * RNG.normal(size=WIDE.shape).astype(np.float32)
    rounded = WIDE + np.float32(0.01) * RNG.normal(size=WIDE.shape).astype(np.float32)
    assert compare({"y": WIDE}, {"y": other})
    assert compare({"y": WIDE}, {"y": other}, {"y": rounded}) is None
    assert compare({"i": np.arange(8)}, {"i": np.arange(8)[::-1]}, {"i": np.arange(8)})
    assert compare({"i": np.arange(8)}, {"i": np.array([1, 0, *range(2, 8)])}, {"i": np.array([1, 0, *range(2, 8)])}) is None
    feed = nudged({"x": WIDE, "i": np.arange(3)})
    assert 0 < np.abs(feed["x"] / WIDE - 1).max() < 1e-6
    assert feed["i"].tolist() == [0, 1, 2]


def test_the_first_tensor_that_differs(tmp_path: Path) -> None:
    model = onnx.load(tiny_cnn(tmp_path / "m.onnx"))
    other = onnx.ModelProto.FromString(model.SerializeToString())
    next(node for node in other.graph.node if node.name == "relu1").op_type = "Tanh"
    feed = {"x": RNG.normal(size=(1, 1, 8, 8)).astype(np.float32)}
    assert first_difference(model, other, feed) == ("r1", "relu1", "Relu")
    assert first_difference(model, model, feed) is None


def _original(model: ModelProto, folder: Path) -> Original:
    onnx.save(model, folder / "m.onnx")
    return Original(open_model(folder / "m.onnx"))


def test_a_model_that_does_not_reproduce_itself(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["n"]),
        helper.make_node("Add", ["x", "n"], ["y"]),
        helper.make_node("Relu", ["x"], ["z"]),
    ]
    both = make_model(nodes, {"x": [1, 8]}, {"y": [1, 8], "z": [1, 8]})
    found = _original(both, tmp_path)
    assert found.note == "not verified for output 'y': the model gives other values each time that it runs"
    assert found.difference(tmp_path / "m.onnx") is None
    alone = _original(make_model(nodes[:2], {"x": [1, 8]}, {"y": [1, 8]}), tmp_path)
    assert alone.note == "not verified: the model gives other outputs each time that it runs"


def test_a_model_that_does_not_run(tmp_path: Path) -> None:
    node = helper.make_node("Mystery", ["x"], ["y"], domain="org.example")
    model = make_model([node], {"x": [1, 8]}, {"y": [1, 8]})
    model.opset_import.append(helper.make_opsetid("org.example", 1))
    found = _original(model, tmp_path)
    assert (found.note or "").startswith("not verified: onnxruntime can't run the model: Fail: ")
    assert found.difference(tmp_path / "m.onnx") is None


def test_a_sample_that_the_model_takes_is_looked_for(tmp_path: Path) -> None:
    """An index that random data of 0 and 1 exceed."""
    model = make_model([helper.make_node("Gather", ["t", "i"], ["y"])], {}, {"y": [3, 2]}, {"t": np.ones((1, 2), np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [3]))
    assert _original(model, tmp_path).note is None


def test_calibration_data_are_taken_before_random_ones(tmp_path: Path) -> None:
    """Also where nothing is calibrated, and so nothing was loaded."""
    source = open_model(tiny_cnn(tmp_path / "m.onnx"))
    np.savez(tmp_path / "d.npz", x=RNG.normal(size=(3, 1, 8, 8)).astype(np.float32))
    found = Original(source, {"batch": 1}, data=str(tmp_path / "d.npz"))
    (feed, *_) = found._feeds()
    assert np.array_equal(feed["x"], np.load(tmp_path / "d.npz")["x"][:1])
    missing = Original(source, {"batch": 1}, data="nowhere.npz")
    assert next(missing._feeds())["x"].shape == (1, 1, 8, 8)
    assert missing.note is None


def test_a_sample_shows_something(tmp_path: Path) -> None:
    """Of random numbers around zero the logarithms are no numbers, mostly; nothing can be seen on outputs that are all NaN."""
    nodes = [helper.make_node("Log", ["x"], ["l"]), helper.make_node("ReduceSum", ["l"], ["y"])]
    found = _original(make_model(nodes, {"x": [4, 8]}, {"y": [1, 1]}), tmp_path)
    assert found.note is None
    never = [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])]
    found = _original(make_model(never, {"x": [4, 8]}, {"y": [4, 8]}), tmp_path)
    assert found.note == "not verified: no output is finite for any sample that was tried"


def test_of_large_outputs_some_values_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "MOST", 100)
    assert compare({"y": WIDE}, {"y": WIDE.copy()}) is None
    assert compare({"y": WIDE}, {"y": WIDE * np.float32(1.1)}, {"y": WIDE})


def test_open_dimensions_without_a_value_are_one(tmp_path: Path) -> None:
    tiny_cnn(tmp_path / "m.onnx")
    found = Original(open_model(tmp_path / "m.onnx"))
    assert found.note is None
    assert found.difference(tmp_path / "m.onnx") is None


def test_an_inference_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that would run for hours."""
    monkeypatch.setattr(equivalence, "LONGEST", 0.05)
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("MatMul", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("n", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", onnx.TensorProto.FLOAT, [64, 64]),
        ],
        [
            helper.make_tensor_value_info("d", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [64, 64]),
        ],
    )
    loop = helper.make_node("Loop", ["most", "", "x"], ["y"], body=body)
    model = make_model([loop], {"x": [64, 64]}, {"y": [64, 64]}, {"most": np.array(10**12)})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(equivalence.RunError, match="one inference takes more than 0 seconds"):
        run(tmp_path / "m.onnx", {"x": np.eye(64, dtype=np.float32)})
    assert _original(model, tmp_path).note == "not verified: RunError: one inference takes more than 0 seconds"
