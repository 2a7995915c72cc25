"""Calibration data for onnxruntime's tools that copy their reader before they read, as GPTQ and SmoothQuant do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxruntime.quantization import CalibrationDataReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.quantize.data.sources import Feed


class CopiedReader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed
    """Feeds, one after the other; a copy begins anew."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._source = feeds
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """Return the next feed, or None after the last."""
        return next(self._feeds, None)

    def __deepcopy__(self, _: object) -> CopiedReader:
        return CopiedReader(self._source)
