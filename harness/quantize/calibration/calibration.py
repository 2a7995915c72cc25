"""Ranges of all activations, found for all calibration methods at once and shared by every static variant."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.quantization import CalibrationMethod, save_tensors_data
from onnxruntime.quantization.calibrate import HistogramCollector, TensorData, TensorsData

from harness.quantize import ort_options
from harness.quantize.calibration.histograms import Bins, Histograms, extremes_of, in_order
from harness.quantize.calibration.probe import Probe, joined
from harness.quantize.cores import cores
from harness.quantize.data.fit import empty_inputs
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.calibration.probe import Row
    from harness.quantize.data.sources import Feed
    from harness.quantize.recipe import Recipe

    Array = NDArray[Any]

MINMAX = "MinMax"
# What each method takes, and what onnxruntime's create_calibrator takes it for when nothing is said.
DEFAULTS: dict[str, dict[str, Any]] = {
    MINMAX: {"symmetric": False, "moving_average": False, "averaging_constant": 0.01},
    "Percentile": {"num_bins": 2048, "percentile": 99.999, "symmetric": True},
    "Entropy": {"num_bins": 128, "num_quantized_bins": 128},
    "Distribution": {"num_bins": 2048, "scenario": "same"},
}


@dataclass(frozen=True)
class Calibration:
    """A way to find ranges.

    Attributes:
        method: a name of onnxruntime's CalibrationMethod.
        said: its options, all of them, as JSON with sorted keys.
    """

    method: str
    said: str

    @classmethod
    def of(cls, recipe: Recipe) -> Calibration:
        """Tell how a static recipe is calibrated; what its method does not take is left out."""
        method = recipe.calibration or MINMAX
        given = ort_options.of_calibration(recipe)
        said = {name: given.get(name, usual) for name, usual in DEFAULTS[method].items()}
        return cls(method, json.dumps(said, sort_keys=True))

    @property
    def options(self) -> dict[str, Any]:
        """The options, a copy."""
        said: dict[str, Any] = json.loads(self.said)
        return said

    @property
    def bins(self) -> Bins | None:
        """The histograms that it needs, if any."""
        if self.method == MINMAX:
            return None
        return Bins(self.options["num_bins"], absolute=self.options.get("symmetric", False))


def calibrate(
    model: Path, feeds: Iterable[Feed], wanted: Sequence[Calibration], folder: Path, op_types: Iterable[str] = ()
) -> dict[Calibration, Path | str]:
    """Find the range of each activation, in all the ways that are wanted.

    A first pass over the data finds all extremes, which is what MinMax needs and what sets the edges of histograms; a second
    one fills the histograms of all other methods. One sample's activations are in memory at a time, and samples may be of
    different shapes. Tensors of all operators that onnxruntime quantizes are covered, so that one calibration serves every
    list of op types. The models made with these ranges are those of ``quantize_static``, bit for bit.

    Args:
        model: the prepared model.
        feeds: calibration data, gone over twice.
        wanted: ways to find ranges.
        folder: where the results and temporary files go.
        op_types: further operators that recipes name.

    Returns:
        For each way a JSON file for ``quantize_static(calibration_cache_path=…)``, or why there is none.

    Raises:
        Exception: of onnxruntime, if the model can't be run on the data.
    """
    shapes = {calibration.bins for calibration in wanted} - {None}
    averaged = any(calibration.options.get("moving_average") for calibration in wanted)
    with quiet(), ThreadPoolExecutor(cores()) as threads:
        probe = Probe(model, op_types, folder, whole=bool(shapes))
        rows, extremes = _first_pass(probe, feeds, threads, every=averaged)
        histograms: dict[Bins, Histograms | str] = {}
        for bins in filter(None, shapes):
            try:
                histograms[bins] = Histograms(bins, extremes)
            except ValueError as exc:
                histograms[bins] = reason_of(exc)
        filled = [found for found in histograms.values() if isinstance(found, Histograms)]
        if filled:
            _second_pass(probe, feeds, threads, filled)
        found: dict[Calibration, Path | str] = {}
        for number, calibration in enumerate(wanted):
            path = folder / f"{calibration.method}-{number}.json"
            try:
                _save(_ranges(calibration, probe, rows, histograms), path)
            except Exception as exc:  # noqa: BLE001 - of this way alone; the others go on
                found[calibration] = reason_of(exc, [folder])
            else:
                found[calibration] = path
    return found


def _first_pass(
    probe: Probe, feeds: Iterable[Feed], threads: ThreadPoolExecutor, *, every: bool
) -> tuple[list[Row], dict[str, Array]]:
    """Find the extremes over all samples; those of every sample, a kilobyte each, are only kept for moving averages.

    Raises:
        ValueError: if there are no samples.
    """
    rows: list[Row] = []
    extremes: dict[str, Array] = {}

    def add(item: tuple[str, Array]) -> None:
        name, values = item
        found = extremes_of(values)
        extremes[name] = extremes_of(np.concatenate([extremes[name], found])) if name in extremes else found

    for number, feed in enumerate(feeds):
        row, activations = _run(probe, number, feed)
        rows = [*rows, row] if every or not rows else [joined(rows[0], row)]
        list(threads.map(add, activations.items()))
        del activations  # or there would be those of two samples
    if not rows:
        message = "there are no calibration data"
        raise ValueError(message)
    return rows, extremes


def _run(probe: Probe, number: int, feed: Feed) -> tuple[Row, dict[str, Array]]:
    """Run a sample.

    Raises:
        ValueError: if the model can't be run with it, and an input has a size of 0.
        Exception: of onnxruntime, if it can't be run with another one.
    """
    try:
        return probe.run(feed)
    except Exception as exc:
        if not (empty := empty_inputs(feed)):
            raise
        message = (
            f"the model can't be run with calibration sample {number}, where {empty}: remove such samples ({reason_of(exc)})"
        )
        raise ValueError(message) from exc


def _second_pass(probe: Probe, feeds: Iterable[Feed], threads: ThreadPoolExecutor, histograms: Sequence[Histograms]) -> None:
    """Fill the histograms."""

    def add(item: tuple[str, Array]) -> None:
        name, values = item
        ordered = in_order(values)
        for each in histograms:
            each.add(name, ordered)

    for feed in feeds:
        list(threads.map(add, probe.run(feed)[1].items()))


def _ranges(calibration: Calibration, probe: Probe, rows: Sequence[Row], histograms: dict[Bins, Histograms | str]) -> Any:  # noqa: ANN401
    """Compute onnxruntime's TensorsData of one way.

    Raises:
        RecipeError: if there are no histograms.
        ValueError: if its options are not possible.
    """
    said = calibration.options
    if not probe.tensors:
        return TensorsData(CalibrationMethod[calibration.method], {})
    if calibration.bins is None:
        return probe.ranges(rows if said["moving_average"] else [_all(rows)], said)
    found = histograms[calibration.bins]
    if isinstance(found, str):
        raise RecipeError(found)
    usual = {"symmetric": False, "num_quantized_bins": 0, "percentile": 0, "scenario": ""}
    collector = HistogramCollector(method=calibration.method.lower(), **{**usual, **said})
    collector.histogram_dict = dict(found.found)
    ranges = TensorsData(CalibrationMethod[calibration.method], collector.compute_collection_result() if found.found else {})
    ranges.data |= {name: TensorData(lowest=low, highest=high) for name, (low, high, _) in found.beyond.items()}
    return ranges


def _all(rows: Sequence[Row]) -> Row:
    first, *others = rows
    for row in others:
        first = joined(first, row)
    return first


def _save(ranges: Any, path: Path) -> None:  # noqa: ANN401 - onnxruntime is not typed
    """Write ranges as onnxruntime reads them; a number of float16 would come back as float32, an array does not."""
    for data in ranges.values():
        for name in ("lowest", "highest"):
            setattr(data, name, np.asarray(getattr(data, name)))
    save_tensors_data(ranges, path)
