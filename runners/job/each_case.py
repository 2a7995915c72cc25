"""What a job measures of each case by itself: its outputs once, its instructions, and its throughput."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol_journal import EndReason
    from tasks import Tasks


def evaluate_all(tasks: Tasks) -> dict[str, int]:
    """Compute the outputs of every case once; gives the most bytes that each took."""
    peaks = {}
    for name in list(tasks.cases):
        path = os.path.join(tasks.folder, "outputs", name + ".npz")
        result = tasks.run(
            {
                "task": "evaluate", "cases": [tasks.cases[name]], "cpus": tasks.request.get("cpus"), "outputs": path,
                "samples": tasks.request["samples"],
            }
        )  # fmt: skip
        if result and result["event"] == "evaluated":
            peaks[name] = result.get("peak_bytes") or 0
            tasks.note({**result, "case": name})
        elif result:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    return peaks


def count(tasks: Tasks) -> EndReason | None:
    """Count instructions, each time in a process of its own, until two agree; returns why it ended early."""
    request, counter = tasks.request, tasks.request.get("counter")
    counts: dict[str, list[int]] = {}
    unsettled = list(tasks.cases) if counter else []
    for number in range(request["count_rounds"]):
        for name in unsettled:
            if tasks.is_over() or counter is None:
                return "max_time"
            result = tasks.run(
                {
                    "task": "count", "cases": [tasks.cases[name]], "cpus": request.get("cpus"), "counter": counter,
                    "count_iterations": request["count_iterations"],
                },
                tasks.first_round + number,
            )  # fmt: skip
            if result and result["event"] == "counted":
                counts.setdefault(name, []).append(min(result["instructions"]))
                tasks.note({**result, "case": name, "round": tasks.first_round + number})
        unsettled = [
            name
            for name in unsettled
            if ("count", name) not in tasks.lost and not agree(counts.get(name, []), request["count_spread"])
        ]
    return None


def agree(found: list[int], spread: float) -> bool:
    """Whether the counts of at least two processes agree to a share of the smallest."""
    return len(found) > 1 and max(found) - min(found) <= spread * min(found)


def measure_throughput(tasks: Tasks) -> EndReason | None:
    """Measure the throughput of several sessions at once; returns why it ended early."""
    request = tasks.request
    asked = [(name, sessions) for sessions in request["throughput"] for name in tasks.cases]
    for number in range(request["throughput_rounds"] if asked else 0):
        for name, sessions in tasks.chance.sample(asked, len(asked)):
            if tasks.is_over():
                return "max_time"
            if ("throughput", name) in tasks.lost:
                continue
            result = tasks.run(
                {
                    "task": "throughput", "cases": [tasks.cases[name]], "cpus": request.get("cpus"), "sessions": sessions,
                    "warmup": request["warmup"], "throughput_seconds": request["throughput_seconds"],
                },
                number,
            )  # fmt: skip
            if result and result["event"] == "throughput":
                tasks.note({**result, "case": name, "round": number})
    return None
