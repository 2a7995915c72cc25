"""Ranges of all activations, found once per calibration method and shared by every static variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator, save_tensors_data
from onnxruntime.quantization.calibrate import HistogramCollector
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from harness.quantize.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.sources import Feed

    Array = NDArray[Any]


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed
    """Feeds, one after the other, as onnxruntime wants to be given them."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """Return the next feed, or None after the last."""
        return next(self._feeds, None)


def calibrate(
    model: Path, feeds: Sequence[Feed], method: str, folder: Path, op_types: Iterable[str] = (), *, large: bool = False
) -> Path:
    """Find the range of each activation.

    Tensors of all operator types that onnxruntime quantizes are covered, so that one calibration serves every list of
    ``op_types``: the resulting models are the same, bit for bit, as those of ``quantize_static`` without sharing.

    Args:
        model: the prepared model.
        feeds: calibration data.
        method: a name of onnxruntime's CalibrationMethod.
        folder: where the file and temporary ones go.
        op_types: further types that recipes name.
        large: whether the model's tensors lie beside it.

    Returns:
        A JSON file for ``quantize_static(calibration_cache_path=…)``.
    """
    kinds = sorted({*QLinearOpsRegistry, *QDQRegistry, *op_types})
    with quiet():
        calibrator = create_calibrator(
            model,
            kinds,
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=CalibrationMethod[method],
            use_external_data_format=large,
        )
        if method == "MinMax":
            calibrator.collect_data(Reader(feeds))
        else:
            _collect_histograms(calibrator, feeds)
        path = folder / f"ranges-{method}.json"
        save_tensors_data(calibrator.compute_data(), path)
    return path


def _collect_histograms(calibrator: Any, feeds: Sequence[Feed]) -> None:  # noqa: ANN401 - onnxruntime is not typed
    """Fill the calibrator's histograms with one sample in memory at a time.

    ``collect_data`` keeps every activation of every sample until it counts them: gigabytes for a small network. Called once
    per sample it would set the bins by the first one and stretch them for each that reaches further, without limit when the
    first is close to zero. So the extremes of all samples are found first, and set the bins as if all had come at once.
    """
    seeds = _extremes(calibrator, feeds)
    collector = HistogramCollector(
        method=calibrator.method,
        symmetric=calibrator.symmetric,
        num_bins=calibrator.num_bins,
        num_quantized_bins=calibrator.num_quantized_bins,
        percentile=calibrator.percentile,
        scenario=calibrator.scenario,
    )
    collector.collect(seeds)
    for name, (counts, *bins) in collector.histogram_dict.items():
        collector.histogram_dict[name] = (np.zeros_like(counts), *bins)
    calibrator.collector = collector
    for feed in feeds:
        calibrator.collect_data(Reader([feed]))


def _extremes(calibrator: Any, feeds: Sequence[Feed]) -> dict[str, Array]:  # noqa: ANN401 - onnxruntime is not typed
    """Find, for each tensor to calibrate, its smallest and largest value and the one nearest to zero, over all samples."""
    session = calibrator.infer_session
    names = sorted(calibrator.tensors_to_calibrate)
    found: dict[str, Array] = {}
    for feed in feeds:
        for name, values in zip(names, session.run(names, feed), strict=True):
            if values.size == 0:
                continue
            nearest = values.flat[np.nanargmin(np.abs(values))]
            candidates = np.array([np.nanmin(values), np.nanmax(values), nearest], dtype=values.dtype)
            found[name] = np.concatenate([found[name], candidates]) if name in found else candidates
    return found
