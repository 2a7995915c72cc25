"""The controller under test: ``harness run`` as it is, in a process of its own, with another runner; it writes down what that cost.

Usage: controller.py RUNNER FIGURES WORD…, the words being those after ``harness``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stamina.instrumentation

from harness.cli import main
from harness.devices import program
from harness.measure.campaign import Campaign
from harness.measure.journal import Journal

if TYPE_CHECKING:
    from harness.measure.events import Event

FOUND: dict[str, Any] = {"connect_retries": 0}


def retried(details: stamina.instrumentation.RetryDetails) -> None:  # noqa: ARG001 - its protocol names it
    """Count a connection that is tried again."""
    FOUND["connect_retries"] += 1


def cpu() -> float:
    """CPU seconds so far, of this process and those that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


measure, write = Campaign.run, Journal.write
LAST: dict[str, float] = {}


def note(self: Journal, event: Event) -> None:
    """Remember when there was an event of this kind for the last time."""
    LAST[event.event] = time.monotonic()
    write(self, event)


def run(self: Campaign, *words: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
    """Take the time of a campaign: connect, push, start, follow, collect."""
    begun, before = time.monotonic(), cpu()
    try:
        measure(self, *words, **named)
    finally:
        ended = time.monotonic()
        FOUND["campaign_seconds"] = ended - begun
        FOUND["starting_seconds"] = LAST.get("begin", ended) - begun
        FOUND["collecting_seconds"] = ended - LAST.get("end", ended)
        FOUND["campaign_cpu_seconds"] = cpu() - before
        FOUND["campaign_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    runner, figures = Path(sys.argv[1]), Path(sys.argv[2])
    sys.argv = ["harness", *sys.argv[3:]]
    vars(program)["runner"] = lambda: runner
    Journal.write = note  # type: ignore[method-assign]
    Campaign.run = run  # type: ignore[method-assign]
    stamina.instrumentation.set_on_retry_hooks([retried])
    started = time.monotonic()
    try:
        main()
    finally:
        FOUND["seconds"], FOUND["cpu_seconds"] = time.monotonic() - started, cpu()
        FOUND["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        figures.write_text(json.dumps(FOUND))
