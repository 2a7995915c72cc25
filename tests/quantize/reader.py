"""Feeds as onnxruntime's own tools want to be given them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxruntime.quantization import CalibrationDataReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.quantize.sources import Feed


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed
    """Feeds, one after the other."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """Return the next feed, or None after the last."""
        return next(self._feeds, None)
