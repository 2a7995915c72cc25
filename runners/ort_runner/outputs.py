"""Computes the outputs of a case for every sample, once, before anything is timed."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Any

import model
import operators
import process

if TYPE_CHECKING:
    from failure import Stage
    from protocol_runner import EvaluateResult, EvaluateTask

# Two runs are the same if the signal's power is so many times that of their difference: 80 dB, and 50 dB in float16.
SAME, SAME_HALF = 1e8, 1e5


def evaluate(task: EvaluateTask, stage: Stage) -> EvaluateResult:
    """Compute the outputs of every sample; the numeric ones go to an .npz file, sample by sample."""
    import numpy as np

    (case,) = task["cases"]
    made = model.Model(case)
    stage.step = "run"
    made.first()
    peak = process.peak_bytes()
    begun = time.perf_counter()
    outputs = [output for feed in made.feeds[: task["samples"]] for output in made.session.run(None, feed)]
    seconds = round(time.perf_counter() - begun, 3)
    again = made.session.run(None, made.feeds[0])
    differing = [index for index, pair in enumerate(zip(outputs, again)) if not same(*pair)]
    arrays = [output for output in outputs if isinstance(output, np.ndarray) and output.dtype.kind in "fiub"]
    path = task["outputs"]
    with open(path, "wb") as file:
        np.savez(file, *arrays)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    load_ns, first_ns = made.load_ns, made.first_ns
    del made  # its memory is needed for the second session
    return {
        "event": "evaluated",
        "outputs": {"name": os.path.basename(path), "size": os.path.getsize(path), "sha256": digest},
        "seconds": seconds,
        "load_ns": load_ns,
        "first_ns": first_ns,
        "peak_bytes": peak,
        "graph": operators.operators(case, path),
        "differing": differing,
    }


def same(first: Any, second: Any) -> bool:  # noqa: ANN401 - whatever a model gives
    """Whether two runs gave the same output: floats to 80 dB (float16: to 50 dB), for threads may add in another order; integers exactly.

    NaN is the same as NaN. What is no numeric tensor is not compared with fp32's either, and not looked at.
    """
    import numpy as np

    if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiub":
        return True
    if first.shape != second.shape or first.dtype.kind != "f" or np.array_equal(first, second):
        return bool(np.array_equal(first, second))
    finite = np.isfinite(first)
    rest, others = (np.nan_to_num(side[~finite], nan=0.0) for side in (first, second))
    if not all(map(np.array_equal, (finite, np.isnan(first), rest), (np.isfinite(second), np.isnan(second), others))):
        return False
    one, other = (side[finite].astype(np.float64) for side in (first, second))
    noise, signal = float(np.sum((one - other) ** 2)), float(np.sum(one**2))
    return not noise or signal >= (SAME_HALF if first.dtype == np.float16 else SAME) * noise
