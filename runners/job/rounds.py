"""The rounds of a job: pairs measured side by side, until each is known as closely as asked."""

from __future__ import annotations

import re
import statistics
import time
from typing import TYPE_CHECKING

import precision

if TYPE_CHECKING:
    from protocol_journal import EndReason
    from protocol_runner import LaunchResult
    from tasks import Tasks

# Two sessions are held in one process only if both fit in this share of the memory that is free.
MEMORY_SHARE = 0.8


class Rounds:
    """Measures the units of a job, round after round."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self.ratios: dict[tuple[str, ...], list[list[float]]] = {}
        self.limits = {tuple(pair): limit for pair, limit in tasks.request.get("limits") or []}

    def split_pairs(self, peaks: dict[str, int]) -> None:
        """Separate the pairs of two runtimes, and those that don't fit in memory together.

        Args:
            peaks: by case, the most bytes that its evaluation took.
        """
        for unit in self.tasks.units:
            if len({self.tasks.cases[name].get("runtime") for name in unit}) > 1:
                self.tasks.keep_separate(unit, "two versions of onnxruntime can't be in one process")
        try:
            with open("/proc/meminfo", encoding="utf-8") as file:
                free = int(re.findall(r"^MemAvailable:\s+(\d+) kB", file.read(), re.MULTILINE)[0]) * 1024
        except (OSError, IndexError):
            return
        for unit in self.tasks.units:
            needed = sum(peaks.get(name, 0) for name in unit)
            if len(unit) > 1 and unit not in self.tasks.separate and needed > MEMORY_SHARE * free:
                reason = "together they need %.0f MB, and %.0f MB are free" % (needed / 1e6, free / 1e6)
                self.tasks.keep_separate(unit, reason)

    def measure(self) -> EndReason | None:
        """Round after round, until every pair is known well enough; returns why it ended early."""
        tasks = self.tasks
        for number in range(tasks.request["rounds"] if tasks.units else 0):
            order = [unit for unit in tasks.units if not self.is_settled(unit)]
            if not order:
                return None
            for unit in tasks.chance.sample(order, len(order)):
                if tasks.is_over():
                    return "max_time"
                if unit in tasks.units:
                    self.measure_unit(unit, tasks.first_round + number)
            if tasks.stopping.is_set():
                return "stopped"
            elapsed = round(time.monotonic() - tasks.begun, 3)
            tasks.note({"event": "round", "round": tasks.first_round + number, "elapsed": elapsed})
        return None

    def measure_unit(self, unit: tuple[str, ...], number: int) -> None:
        """One launch of a pair, or of each of its cases in turn, or of a case alone."""
        if unit not in self.tasks.separate:
            line = self.launch(unit, number, None)
            if line is not None:
                self.ratios.setdefault(unit, []).append(precision.replicates(line))
            if unit not in self.tasks.separate or self.tasks.is_over():
                return
            self.ratios.pop(unit, None)
        levels = {}
        for name in self.tasks.chance.sample(unit, len(unit)):
            line = self.launch((name,), number, unit) if name in self.tasks.cases else None
            found = precision.replicates(line) if line is not None else []
            if found:
                levels[name] = statistics.median(found)
        if len(levels) == len(unit):
            self.ratios.setdefault(unit, []).append([levels[unit[0]] - levels[unit[1]]])

    def launch(self, names: tuple[str, ...], number: int, pair: tuple[str, ...] | None) -> LaunchResult | None:
        """Measure two cases in one process, or one alone; a pair whose process dies is measured in separate ones from then on.

        Args:
            names: the cases.
            number: that of the round.
            pair: the pair that the case belongs to, if it is measured in separate processes.
        """
        request = self.tasks.request
        result = self.tasks.run(
            {
                "task": "duet", "cases": [self.tasks.cases[name] for name in names], "cpus": request.get("cpus"),
                "seed": self.tasks.chance.getrandbits(32), "turns": request["turns"], "rebuilds": request["rebuilds"],
                "pairs": request["pairs"], "block": request["block"], "warmup": request["warmup"], "launch": request["launch"],
            },
            number,
        )  # fmt: skip
        if result is None or result["event"] != "duet":
            return None
        self.tasks.note({**result, "round": number, "apart": None if pair is None else list(pair)})
        return result

    def is_settled(self, unit: tuple[str, ...]) -> bool:
        """Whether a pair's ratio, or a level, is known as closely as asked: to a precision, or on which side of a limit it lies."""
        request, groups = self.tasks.request, self.ratios.get(unit, [])
        if len(groups) < min(request["least_rounds"], request["rounds"]):
            return False
        reach = precision.half_width(groups, request["t"])
        if unit not in self.limits:
            return bool(reach <= request["precision"])
        # Of a pair the first is the baseline, so a slower candidate makes the ratio smaller.
        return bool(abs(-precision.spread(groups)[0] - self.limits[unit]) > reach)
