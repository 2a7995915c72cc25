"""Ranges of a model: those that an earlier build kept, and otherwise new ones."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from harness.quantize.calibration.calibration import calibrate
from harness.quantize.calibration.ranges import digest_of, key_of
from harness.quantize.reasons import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.quantize.calibration.calibration import Calibration
    from harness.quantize.calibration.ranges import Ranges
    from harness.quantize.data.load import Samples


def find(
    model: Path, samples: Samples, wanted: Sequence[Calibration], folder: Path, op_types: tuple[str, ...], kept: Ranges | None
) -> dict[Calibration, Path | str]:
    """Find the ranges of a model by several calibrations.

    Args:
        model: the file.
        samples: the calibration data.
        wanted: the calibrations.
        folder: where the files with ranges go.
        op_types: of all recipes.
        kept: ranges of earlier builds; None keeps none.

    Returns:
        For each calibration the file with its ranges, or the reason why there is none.
    """
    place = Path(mkdtemp(prefix="ranges-", dir=folder))
    found: dict[Calibration, Path | str] = {}
    try:
        # Hashing takes time; without kept ranges there is no use for it.
        digest = digest_of(model) if kept else ""
        keys = {calibration: key_of(digest, samples.digest, calibration, op_types) for calibration in wanted if kept}
        for number, (calibration, key) in enumerate(keys.items()):
            path = place / f"kept-{number}.json"
            if kept and kept.find(key, path):
                found[calibration] = path
        missing = [calibration for calibration in wanted if calibration not in found]
        if missing:
            found |= calibrate(model, samples.feeds, missing, place, op_types)
        for calibration in missing:
            path_or_reason = found[calibration]
            if kept and isinstance(path_or_reason, Path):
                kept.keep(keys[calibration], path_or_reason)
    except Exception as exc:  # noqa: BLE001 - kept as a reason, so that not every recipe waits for the same failure
        found = {one: found.get(one, reason_of(exc, [place, folder])) for one in wanted}
    return {
        calibration: f"calibration by {calibration.method} failed: {one}" if isinstance(one, str) else one
        for calibration, one in found.items()
    }
