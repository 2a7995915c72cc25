"""A launch: two cases measured side by side, or one alone, with sessions that are created again and again."""

from __future__ import annotations

import gc
import random
import statistics
import time
from typing import TYPE_CHECKING, Callable

import model
import packing
import process
import timing
from disturbances import Conditions, disturbances

if TYPE_CHECKING:
    from failure import Stage
    from protocol import Case
    from protocol_runner import BlockPair, LaunchResult, LaunchTask, Rebuild


class Launch:
    """One task being measured.

    Args:
        task: what is measured, and how.
        stage: told which case is being worked on.
    """

    def __init__(self, task: LaunchTask, stage: Stage) -> None:
        self.task, self.stage = task, stage
        self.cases: list[Case] = task["cases"]
        self.chance = random.Random(task["seed"])  # noqa: S311 - an order, no secret
        self.conditions = Conditions()
        self.deadline = time.monotonic() + task["launch"]

    def run(self) -> LaunchResult:
        """Measure: sessions rebuilt again and again in this process."""
        rebuilds: list[Rebuild] = []
        gc.disable()
        # Where one rebuild takes long, more processes replace more rebuilds.
        while len(rebuilds) < self.task["rebuilds"] and (not rebuilds or time.monotonic() < self.deadline):
            rebuilds.append(self.rebuild())
            gc.collect()
        names = [case["id"] for case in self.cases]
        return {"event": "duet", "cases": names, "peak_bytes": process.peak_bytes(), "rebuilds": rebuilds}

    def rebuild(self) -> Rebuild:
        """Make the sessions anew, warm them up, and measure them in blocks side by side."""
        order = self.drawn_order()
        models: dict[int, model.Model] = {}
        calls: list[Callable[[], object]] = [lambda: None for _ in self.cases]
        warmed: list[tuple[int, bool]] = [(0, False) for _ in self.cases]
        for index in order:
            self.stage.step, self.stage.case = "load", self.cases[index]["id"]
            models[index] = model.Model(self.cases[index])
            self.stage.step = "run"
            calls[index] = models[index].first()
        for index in order:
            self.stage.case = self.cases[index]["id"]
            warmed[index] = timing.warm(calls[index], self.task["warmup"])
        self.stage.case = None
        indices = range(len(self.cases))
        return {
            "order": order,
            "load_ns": [models[index].load_ns for index in indices],
            "first_ns": [models[index].first_ns for index in indices],
            "warmup": [count for count, _ in warmed],
            "steady": [steady for _, steady in warmed],
            "pairs": self.pairs(calls),
        }

    def pairs(self, calls: list[Callable[[], object]]) -> list[BlockPair]:
        """Measure pairs of blocks; a disturbed one is measured again, as often as there are pairs, and stays in the record."""
        found: list[BlockPair] = []
        before = self.conditions.read()
        most = self.task["pairs"]
        while not found or (
            sum(not pair["disturbed"] for pair in found) < most > len(found) // 2 and time.monotonic() < self.deadline
        ):
            order = self.drawn_order()
            samples, costs = self.blocks(calls, order)
            after = self.conditions.read()
            pair: BlockPair = {
                "cpu_ns": costs[0],
                "switches": costs[1],
                "minor_faults": costs[2],
                "major_faults": costs[3],
                "wall_ns": costs[4],
                "order": order,
                "medians": [statistics.median(each) for each in samples],
                "samples": [packing.encode(each) for each in samples],
                "before": before,
                "after": after,
                "disturbed": [],
            }
            pair["disturbed"] = disturbances(pair, max(case["threads"] for case in self.cases))
            found.append(pair)
            before = after
        return found

    def blocks(self, calls: list[Callable[[], object]], order: list[int]) -> tuple[list[list[int]], list[list[int]]]:
        """Measure one pair of blocks, or one block of a model alone; gives the samples of each case, and each of usage()'s costs block by block."""
        samples: list[list[int]] = [[] for _ in calls]
        marks = []
        if self.task["turns"] and len(calls) > 1:
            begun = process.usage()
            samples = timing.timed_in_turn(calls, self.task["block"], self.chance)
            marks.append((begun, process.usage()))
        else:
            for index in order:
                self.stage.case = self.cases[index]["id"]
                # Whoever comes second finds the caches full of the other's: the first call is not counted.
                calls[index]()
                begun = process.usage()
                samples[index] = timing.timed(calls[index], self.task["block"])
                marks.append((begun, process.usage()))
        costs = [[end - start for start, end in zip(*mark)] for mark in marks]
        return samples, [list(cost) for cost in zip(*costs)]

    def drawn_order(self) -> list[int]:
        """The cases in random order."""
        return self.chance.sample(range(len(self.cases)), len(self.cases))
