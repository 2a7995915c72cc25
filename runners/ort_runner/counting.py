"""Counts the instructions of a case."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import counters
import model
import process

if TYPE_CHECKING:
    from failure import Stage
    from protocol_runner import CountResult, CountTask

WARMUP = 2


def count(task: CountTask, stage: Stage) -> CountResult:
    """Count every iteration's instructions, and cycles where the kernel counts.

    On an icount board the clock counts instructions: one is a nanosecond (QEMU, -icount shift=0).
    """
    import onnxruntime  # noqa: F401 - its own threads must not be counted

    # Before the session: counters cover only threads that are started later.
    opened = [counters.open_counter(name) for name in counters.PERF_EVENTS] if task["counter"] == "perf" else []
    made = model.Model(task["cases"][0])
    stage.step = "run"
    session, names, feed = made.session, made.names, made.feeds[0]
    counted: list[list[int]] = []
    for _ in range(WARMUP):
        session.run(names, feed)
    gc.collect()
    gc.disable()
    for _ in range(task["count_iterations"]):
        before = [counters.read_counter(each) for each in opened] or [time.perf_counter_ns()]
        session.run(names, feed)
        after = [counters.read_counter(each) for each in opened] or [time.perf_counter_ns()]
        counted.append([end - start for start, end in zip(before, after)])
    found: CountResult = {
        "event": "counted",
        "counter": task["counter"],
        "load_ns": made.load_ns,
        "peak_bytes": process.peak_bytes(),
        "instructions": [each[0] for each in counted],
    }
    if opened:
        found["cycles"] = [each[1] for each in counted]
    return found
