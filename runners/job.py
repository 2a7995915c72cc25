"""Carries out one job on a device: which case is visited when, each in a fresh process of a runner; PROTOCOL.md tells how.

One file for Python >= 3.9 with nothing but its standard library. What a visit is, the runner knows; this knows the order, the
bounds in time, and the journal.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Any

PROTOCOL = 1
MESSAGE_LIMIT = 2000


def ending(code: int, log: str) -> str:
    """Words for how a process ended."""
    last = [line for line in log.strip().splitlines() if line.strip()][-1:] or ["no message"]
    if code < 0:
        return "killed by %s; last words: %s" % (signal.Signals(-code).name, last[0][:MESSAGE_LIMIT])
    return last[0][:MESSAGE_LIMIT]


class Job:
    """One request being carried out in the job's folder, and its journal.

    SIGTERM asks it to stop: the block that is under way is ended and not recorded.
    """

    def __init__(self, folder: str, runner: str) -> None:
        self.folder = folder
        self.runner = runner
        self.blobs = os.path.join(os.path.dirname(os.path.dirname(folder)), "blobs", "sha256")
        with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
            self.request = json.load(file)
        self.cases = {case["id"]: case for case in self.request["cases"]}
        self.counts: dict[str, list[int]] = {}
        self.stopping = threading.Event()
        self.process: subprocess.Popen[str] | None = None
        self.journal: IO[str]

    def run(self) -> None:
        """Evaluate every case, then measure round after round; write how it ended to ``rc``."""
        signal.signal(signal.SIGTERM, self.stop)
        with open(os.path.join(self.folder, "journal.jsonl"), "a", encoding="utf-8") as self.journal:
            self.note({"event": "begin", "protocol": PROTOCOL, "time": time.time(), "facts": self.facts()})
            self.note({"event": "end", "reason": self.visit_all()})
        path = os.path.join(self.folder, "rc")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write("0")
        os.rename(path + ".new", path)

    def facts(self) -> dict[str, Any]:
        """What the runner says of the device, right before measuring."""
        done = subprocess.run([sys.executable, self.runner, "probe"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
        facts: dict[str, Any] = json.loads(done.stdout)
        facts["runtime"] = os.environ.get("QUANT_HARNESS_RUNTIME")
        return facts

    def stop(self, *_signal: object) -> None:
        """Remember to stop, and end the worker."""
        self.stopping.set()
        if self.process is not None:
            self.process.kill()

    def note(self, line: dict[str, Any]) -> None:
        """Append one line to the journal."""
        self.journal.write(json.dumps(line) + "\n")
        self.journal.flush()

    def visit_all(self) -> str:
        """Visit the cases in the order asked; returns why it ended."""
        begun = time.monotonic()
        for name in list(self.cases):
            self.visit(name, None)
        for number, order in enumerate(self.request["rounds"]):
            if not self.round(order, number, None, begun):
                return "stopped" if self.stopping.is_set() else "max_time"
        counter = self.request.get("counter")
        unsettled = list(self.cases) if counter else []
        for number in range(self.request["count_rounds"] if counter else 0):
            if not self.round(unsettled, number, counter, begun):
                return "stopped" if self.stopping.is_set() else "max_time"
            unsettled = [name for name in unsettled if not self.settled(name)]
        return "stopped" if self.stopping.is_set() else "rounds"

    def round(self, order: list[str], number: int, counter: str | None, begun: float) -> bool:
        """Visit the cases once; returns whether it came to its end."""
        for name in order:
            if self.stopping.is_set() or time.monotonic() - begun > self.request["max_time"]:
                return False
            if name in self.cases:
                self.visit(name, number, counter)
        if order and not self.stopping.is_set() and not counter:
            self.note({"event": "round", "round": number, "elapsed": round(time.monotonic() - begun, 3)})
        return not self.stopping.is_set()

    def settled(self, name: str) -> bool:
        """Whether a case's counts in at least two processes agree as closely as asked."""
        found = self.counts.get(name, [])
        return len(found) > 1 and max(found) - min(found) <= self.request["count_spread"] * min(found)

    def visit(self, name: str, number: int | None, counter: str | None = None) -> None:
        """Evaluate a case (number None), measure or count one block of it; a case that fails is not visited again."""
        if self.stopping.is_set():
            return
        case = self.cases[name]
        task = {
            "model": os.path.join(self.blobs, case["model"]),
            "inputs": os.path.join(self.blobs, case["inputs"]),
            "names": case["names"],
            "threads": case["threads"],
            "provider": case["provider"],
            "outputs": os.path.join(self.folder, "outputs", name + ".npz") if number is None else None,
        }
        for key in ("cpus", "warmup", "block", "block_limit", "iterations", "count_iterations", "samples"):
            task[key] = self.request.get(key)
        task["counter"] = counter
        outcome = self.in_worker(task)
        if self.stopping.is_set():
            return
        if outcome["event"] == "failed":
            del self.cases[name]
        if outcome["event"] == "counted":
            self.counts.setdefault(name, []).append(min(outcome["instructions"]))
        self.note(dict(outcome, case=name, round=number))

    def in_worker(self, task: dict[str, Any]) -> dict[str, Any]:
        """Run one task in a fresh process, bounded in time; how it ends is the outcome."""
        process = self.process = subprocess.Popen(
            [sys.executable, self.runner, "worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        try:
            out, log = process.communicate(json.dumps(task), timeout=self.request["timeout"])
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return {"event": "failed", "kind": "timeout", "message": "no result after %g s" % self.request["timeout"]}
        if process.returncode == 0 and out.endswith("\n"):
            result: dict[str, Any] = json.loads(out)
            return result
        return {"event": "failed", "kind": "crash", "message": ending(process.returncode, log)}


if __name__ == "__main__":
    Job(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])).run()
