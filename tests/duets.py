"""Launches as a device would write them, from times that a test names."""

from __future__ import annotations

import runpy
import statistics
from typing import TYPE_CHECKING, Any

from harness.measure.launch import Launch
from harness.paths import RUNNERS

if TYPE_CHECKING:
    from collections.abc import Sequence

encode = runpy.run_path(str(RUNNERS / "ort_runner" / "packing.py"))["encode"]


def pair(blocks: Sequence[Sequence[int]], **changes: Any) -> dict[str, Any]:
    """A pair of blocks, or one block, with these nanoseconds."""
    wall = [sum(block) for block in blocks]
    few = [0] * len(blocks)
    found = {
        "order": list(range(len(blocks))), "medians": [statistics.median(block) for block in blocks],
        "wall_ns": wall, "cpu_ns": wall, "switches": few, "minor_faults": few, "major_faults": few,
        "before": {}, "after": {}, "disturbed": [], "samples": [encode(list(block)) for block in blocks],
    }  # fmt: skip
    return {**found, **changes}


def rebuild(*pairs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Sessions that were made anew; 5 ms to load, 4 ms for the first inference."""
    count = len(pairs[0]["medians"])
    found = {
        "order": list(range(count)), "load_ns": [5_000_000] * count, "first_ns": [4_000_000] * count,
        "warmup": [9] * count, "steady": [True] * count, "pairs": list(pairs),
    }  # fmt: skip
    return {**found, **changes}


def line(cases: Sequence[str], number: int, *rebuilds: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The journal's line of a launch, as a runner writes it."""
    found = {"event": "duet", "cases": list(cases), "round": number, "rebuilds": list(rebuilds), "peak_bytes": 50_000_000}
    return {**found, **changes}


def launch(device: str, cases: Sequence[str], number: int, medians: Sequence[Sequence[int]], **changes: Any) -> Launch:
    """A launch with a rebuild of one pair for each of these medians, in nanoseconds; blocks of three iterations."""
    rebuilds = [rebuild(pair([[median] * 3 for median in each])) for each in medians]
    return Launch.model_validate({**line(cases, number, *rebuilds, **changes), "device": device})
