from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationMethod, create_calibrator, save_tensors_data
from onnxruntime.quantization.calibrate import HistogramCalibrater, MinMaxCalibrater, load_tensors_data

from harness.quantize.calibration.calibration import DEFAULTS, Calibration, calibrate
from harness.quantize.calibration.probe import Probe
from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.quiet import quiet
from harness.quantize.recipe import Recipe, spelled
from tests.models import images, make_model

# The first sample is tiny, the last one large: stretched bins would be many, and others.
FEEDS = [{"x": images(1, seed=n) * np.float32(10.0 ** (n - 5))} for n in range(6)]


def of(method: str, **options: Any) -> Calibration:
    recipe = Recipe(name="r", method="static", calibration=method, calibration_options=spelled(options))
    return Calibration.of(recipe)


@pytest.mark.parametrize("method", [method.name for method in CalibrationMethod])
def test_defaults_are_onnxruntimes(cnn: Path, tmp_path: Path, method: str) -> None:
    path = str(tmp_path / "augmented.onnx")
    with quiet():
        calibrator = create_calibrator(cnn, augmented_model_path=path, calibrate_method=CalibrationMethod[method])
    assert {name: getattr(calibrator, name) for name in DEFAULTS[method]} == DEFAULTS[method]
    assert isinstance(calibrator, MinMaxCalibrater if method == "MinMax" else HistogramCalibrater)


def test_all_ways_at_once_are_each_alone(cnn: Path, tmp_path: Path) -> None:
    """One call gives what onnxruntime's calibrator of each method gives with all samples at once, with and without options."""
    asked = {
        of("MinMax"): {},
        of("MinMax", symmetric=True): {"symmetric": True},
        of("MinMax", moving_average=True): {"moving_average": True},
        of("Percentile"): {},
        of("Percentile", percentile=99.0): {"percentile": 99.0},
        of("Percentile", symmetric=False, num_bins=300): {"symmetric": False, "num_bins": 300},
        of("Entropy"): {},
        of("Entropy", num_bins=200, num_quantized_bins=64): {"num_bins": 200, "num_quantized_bins": 64},
        of("Distribution"): {},
        of("Distribution", scenario="p3"): {"scenario": "p3"},
    }
    assert len(asked) == 10
    found = calibrate(cnn, FEEDS, list(asked), tmp_path, op_types=["Neg"])
    for number, (calibration, options) in enumerate(asked.items()):
        alone = tmp_path / f"alone-{number}.json"
        with quiet():
            calibrator = create_calibrator(
                cnn,
                augmented_model_path=str(tmp_path / "a.onnx"),
                calibrate_method=CalibrationMethod[calibration.method],
                extra_options=options,
            )
            calibrator.collect_data(CopiedReader(FEEDS))
            save_tensors_data(calibrator.compute_data(), alone)
        path = found[calibration]
        assert isinstance(path, Path), path
        ranges, expected = load_tensors_data(path), load_tensors_data(alone)
        assert sorted(ranges.keys()) == sorted(expected.keys())
        for name in expected.keys():  # noqa: SIM118 - a TensorsData is no mapping
            for side in ("lowest", "highest"):
                assert np.asarray(getattr(ranges[name], side)) == np.asarray(getattr(expected[name], side)), (calibration, name)


def test_options_of_other_methods_change_nothing() -> None:
    assert of("MinMax", percentile=90) == of("MinMax")
    assert of("Percentile", moving_average=True) == of("Percentile")
    assert of("Percentile", percentile=90) != of("Percentile")


def test_one_way_fails_and_the_others_go_on(cnn: Path, tmp_path: Path) -> None:
    bad, good, small = of("Percentile", percentile=200), of("MinMax"), of("Distribution", num_bins=100)
    worse, none = of("MinMax", moving_average=True, averaging_constant=2), of("Entropy", num_bins=0)
    found = calibrate(cnn, FEEDS, [bad, good, small, worse, none], tmp_path)
    assert "Invalid percentile" in str(found[bad])
    assert "512 <= num_bins" in str(found[small])
    assert "averaging_constant must be from 0 to 1" in str(found[worse])
    assert "`bins` must be positive" in str(found[none])
    assert isinstance(found[good], Path)


def test_no_data(cnn: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no calibration data"):
        calibrate(cnn, [], [of("MinMax")], tmp_path)


def test_shapes_may_differ(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"), helper.make_node("Neg", ["r"], ["y"], "neg")]
    onnx.save(make_model(nodes, {"x": ["n", 2]}, {"y": ["n", 2]}), tmp_path / "m.onnx")
    feeds = [{"x": np.full((rows, 2), rows, dtype=np.float32)} for rows in (1, 3, 2)]
    found = calibrate(tmp_path / "m.onnx", feeds, [of("MinMax"), of("Entropy")], tmp_path, op_types=["Neg"])
    for path in found.values():
        ranges = load_tensors_data(path)
        assert ranges["r"].highest.item() == 3.0
        assert ranges["y"].lowest.item() == -3.0


def test_half_precision_stays_so(tmp_path: Path) -> None:
    """A number of float16 comes back from onnxruntime's file as float32, and would make scales that the model does not take."""
    model = make_model([helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": [1, 4]}, {"y": [1, 4]})
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "m.onnx")
    feeds = [{"x": np.array([[-1, 0, 1, 2]], dtype=np.float16)}]
    found = calibrate(tmp_path / "m.onnx", feeds, [of("MinMax"), of("Entropy")], tmp_path)
    for path in found.values():
        assert load_tensors_data(path)["y"].highest.dtype == np.float16


def test_one_sample_is_held_at_a_time(cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many samples there are: of feeds and of activations, there are never those of two."""
    alive: list[weakref.ref[Any]] = []
    most: list[int] = []

    class Feeds:
        def __iter__(self) -> Iterator[dict[str, Any]]:
            for number in range(8):
                array = images(1, seed=number)
                alive.append(weakref.ref(array))
                yield {"x": array}
                del array

    original = Probe.run

    def run(self: Probe, feed: Any) -> Any:
        most.append(sum(ref() is not None for ref in alive))
        row, activations = original(self, feed)
        alive.extend(weakref.ref(values) for values in activations.values())
        return row, activations

    monkeypatch.setattr(Probe, "run", run)
    calibrate(cnn, Feeds(), [of("MinMax"), of("Percentile")], tmp_path)
    assert len(most) == 16
    # The sample that is about to be run, and the one that the loop variable still names.
    assert max(most) <= 2


def test_the_spelling_is_complete() -> None:
    assert json.loads(of("Percentile", percentile=90).said) == {"num_bins": 2048, "percentile": 90, "symmetric": True}


def decoder(path: Path) -> Path:
    """Write a step of a decoder: x [1, seq, 4] joined with a past [1, past, 4]."""
    nodes = [
        helper.make_node("MatMul", ["past", "w"], ["p"], "past"),
        helper.make_node("Concat", ["p", "x"], ["both"], "join", axis=1),
        helper.make_node("MatMul", ["both", "w"], ["y"], "last"),
    ]
    weight = np.arange(16, dtype=np.float32).reshape(4, 4) / 16
    onnx.save(make_model(nodes, {"x": [1, "seq", 4], "past": [1, "past", 4]}, {"y": [1, "all", 4]}, {"w": weight}), path)
    return path


def steps(*lengths: int) -> list[dict[str, Any]]:
    """Samples whose past has these lengths, its values from -1 to 1."""
    return [
        {"x": np.full((1, 2, 4), 0.5, np.float32), "past": np.linspace(-1, 1, 4 * n, dtype=np.float32).reshape(1, n, 4)}
        for n in lengths
    ]


WAYS = [of(method) for method in DEFAULTS] + [of("MinMax", moving_average=True), of("Percentile", symmetric=False)]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.method} {way.said}")
def test_samples_without_a_past_do_not_change_its_range(tmp_path: Path, way: Calibration) -> None:
    model = decoder(tmp_path / "m.onnx")
    ranges = []
    for lengths in ((0, 3, 0, 3), (3, 3)):
        path = calibrate(model, steps(*lengths), [way], tmp_path)[way]
        assert isinstance(path, Path), path
        found = load_tensors_data(path)["past"]
        ranges.append((found.lowest.item(), found.highest.item()))
    assert ranges[0] == pytest.approx(ranges[1])
    assert np.isfinite(ranges[0]).all()


def test_a_sample_that_the_model_can_not_take_for_its_size_of_0_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    weight = np.ones((1, 1, 3, 3), np.float32)
    onnx.save(make_model(nodes, {"x": [1, 1, "h", 8]}, {"y": [1, 1, "k", 6]}, {"w": weight}), tmp_path / "m.onnx")
    feeds = [{"x": np.zeros((1, 1, height, 8), np.float32)} for height in (8, 0)]
    with pytest.raises(ValueError, match=r"calibration sample 1, where a size is 0: 'x' \[1, 1, 0, 8\]"):
        calibrate(tmp_path / "m.onnx", feeds, [of("MinMax")], tmp_path)
