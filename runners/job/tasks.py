"""The tasks of a job: what is still measured, each task in a process of its own, and the journal of what came out."""

from __future__ import annotations

import errno
import json
import os
import random
import threading
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from protocol import Case, Request
    from protocol_journal import Line
    from protocol_runner import Failure, Result, Task
    from worker_process import WorkerProcess


class Tasks:
    """What a job still measures.

    Args:
        folder: the job's.
        request: what was asked.
        journal: where lines are appended.
        worker: runs the tasks.

    Attributes:
        cases: those that have not failed, with the places of their files.
        units: the pairs and single cases that are measured in rounds.
        separate: the pairs whose cases are measured in processes of their own, which alternate.
        lost: what can't be measured, as (task, case), though the case can be timed.
    """

    def __init__(self, folder: str, request: Request, journal: IO[str], worker: WorkerProcess) -> None:
        self.folder, self.request, self.journal, self.worker = folder, request, journal, worker
        self.cases = {case["id"]: located(case, folder) for case in request["cases"]}
        self.units: list[tuple[str, ...]] = [tuple(unit) for unit in request["units"]]
        self.separate: set[tuple[str, ...]] = set()
        self.lost: set[tuple[str, str]] = set()
        self.chance = random.Random(request["seed"])  # noqa: S311 - an order, no secret
        self.first_round = request.get("first_round", 0)
        self.stopping = threading.Event()
        self.begun = time.monotonic()

    def stop(self) -> None:
        """Begin no other task, and end the one that runs; it is not recorded."""
        self.stopping.set()
        self.worker.kill()

    def is_over(self) -> bool:
        """Whether no other task may begin."""
        return self.stopping.is_set() or time.monotonic() - self.begun > self.request["max_time"]

    def note(self, line: Line) -> None:
        """Append one line to the journal."""
        self.journal.write(json.dumps(line) + "\n")
        self.journal.flush()

    def run(self, task: Task, number: int | None = None) -> Result | None:
        """Run one task; a case that fails is noted and not measured again. None when the job was stopped.

        Args:
            task: what is asked of the runner.
            number: that of the round; None in the evaluation.
        """
        if self.stopping.is_set():
            return None
        result = self.worker.run(task)
        if self.stopping.is_set():
            return None
        if result["event"] == "failed":
            self.failed(task, result, number)
        return result

    def failed(self, task: Task, failure: Failure, number: int | None) -> None:
        """Note a failure, and leave out what can't be measured because of it."""
        names = tuple(case["id"] for case in task["cases"])
        case, message = failure.get("case") or names[0], failure["message"]
        if os.strerror(errno.ENOSPC) in message:
            raise SystemExit(message)  # no case's fault
        if task["task"] == "count" or task["task"] == "throughput":
            self.lost.add((task["task"], case))
            self.note({"event": "trouble", "case": case, "what": task["task"], "kind": failure["kind"], "message": message})
        elif len(names) > 1 and (failure["kind"] in ("crash", "timeout", "memory") or not failure.get("case")):
            # Each of them ran alone: it may be too much for one process.
            self.keep_separate(names, "%s: %s" % (failure["kind"], message))
        else:
            self.drop(case)
            self.note({"event": "failed", "case": case, "round": number, "kind": failure["kind"], "message": message})

    def keep_separate(self, unit: tuple[str, ...], reason: str) -> None:
        """From now on, measure a pair in processes that alternate."""
        self.separate.add(unit)
        self.note({"event": "apart", "cases": list(unit), "reason": reason})

    def drop(self, name: str) -> None:
        """Give a case up; those that were paired with it alone go on alone."""
        del self.cases[name]
        orphans = {other for unit in self.units if name in unit for other in unit if other != name}
        self.units = [unit for unit in self.units if name not in unit]
        paired = {other for unit in self.units for other in unit}
        self.units += [(other,) for other in sorted(orphans - paired) if other in self.cases]


def located(case: Case, folder: str) -> Case:
    """A case with the places of its files and its runtime in the store that a job's folder belongs to."""
    store = os.path.dirname(os.path.dirname(folder))
    found = case.copy()
    found["model"] = os.path.join(store, "blobs", "sha256", case["model"])
    found["inputs"] = os.path.join(store, "blobs", "sha256", case["inputs"])
    runtime = case.get("runtime")
    if runtime:
        found["runtime"] = os.path.join(store, "runtimes", runtime)
    return found
