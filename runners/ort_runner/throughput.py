"""Measures how often several sessions of a case run at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import model
import process
import timing

if TYPE_CHECKING:
    from failure import Stage
    from protocol_runner import ThroughputResult, ThroughputTask


def throughput(task: ThroughputTask, stage: Stage) -> ThroughputResult:
    """Inferences per second of several sessions at once, each in a thread of its own."""
    models = [model.Model(task["cases"][0]) for _ in range(task["sessions"])]
    stage.step = "run"
    calls = [each.first() for each in models]
    for call in calls:
        timing.warm(call, task["warmup"])
    ready = threading.Barrier(len(calls))
    done, ends = [0] * len(calls), [(0, 0)] * len(calls)
    errors: list[Exception] = []

    def loop(index: int) -> None:
        call, number, clock = calls[index], 0, time.perf_counter_ns
        try:
            ready.wait()
            begun = now = clock()
            while now - begun < task["throughput_seconds"] * 1e9:
                call()
                number += 1
                now = clock()
            done[index], ends[index] = number, (begun, now)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return {
        "event": "throughput",
        "sessions": len(calls),
        "inferences": sum(done),
        "wall_ns": max(end for _, end in ends) - min(begun for begun, _ in ends),
        "peak_bytes": process.peak_bytes(),
    }
