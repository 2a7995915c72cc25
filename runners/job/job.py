"""Carries out one job on a device: takes the lease, has the runner measure one task after the other, and ends by itself in time.

A few modules, pushed as one file, for Python >= 3.9 with nothing but its standard library; PROTOCOL.md tells what it reads and writes. How
a task is measured, the runner knows.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

import child
import each_case
import governor
import lease
import small_files
from rounds import Rounds
from tasks import Tasks
from version import PROTOCOL
from worker_process import WorkerProcess

if TYPE_CHECKING:
    from protocol import Request
    from protocol_journal import EndReason, Facts

PROBE_SECONDS = 120.0


class Job:
    """One request being carried out in the job's folder.

    SIGTERM asks it to stop: the task that is under way is ended and not recorded.
    """

    def __init__(self, folder: str, runner: str) -> None:
        self.folder, self.runner = folder, runner
        self.store = os.path.dirname(os.path.dirname(folder))
        with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
            self.request: Request = json.load(file)
        if self.request.get("protocol") != PROTOCOL:
            raise SystemExit(
                "this job speaks protocol %d, but the request is in protocol %r: start the job with the version of the harness that wrote the request"
                % (PROTOCOL, self.request.get("protocol"))
            )
        self.lease = lease.Lease(self.store, os.path.basename(folder), PROTOCOL)
        self.late = False

    def run(self) -> None:
        """Take the lease and measure; write how it ended to ``rc``."""
        with open(os.path.join(self.folder, "journal.jsonl"), "a", encoding="utf-8") as journal:
            self.carry_out(journal)
        small_files.replace(os.path.join(self.folder, "rc"), "0")

    def carry_out(self, journal: IO[str]) -> None:
        """Take the lease, and measure what is asked for."""
        request = self.request
        worker = WorkerProcess(self.runner, request["timeout"], request.get("memory"), self.lease.descriptors)
        tasks = Tasks(self.folder, request, journal, worker)
        signal.signal(signal.SIGTERM, lambda *_: tasks.stop())
        holder = self.lease.take(
            request["who"], request["wait"], tasks.stopping.is_set,
            lambda said: tasks.note({"event": "waiting", "holder": said}), request["longest"],
        )  # fmt: skip
        if holder is not None:
            tasks.note({"event": "busy", "holder": holder})
            return
        tasks.begun = time.monotonic()
        if self.lease.lacking is not None:
            tasks.note({"event": "lease", "reason": self.lease.lacking})
        with self.bounded(tasks), governor.held(request.get("governor"), tasks.note):
            tasks.note({"event": "begin", "protocol": PROTOCOL, "time": time.time(), "facts": self.facts()})
            tasks.note({"event": "end", "reason": self.measure(tasks)})

    def measure(self, tasks: Tasks) -> EndReason:
        """Evaluate every case, measure in rounds, count instructions and measure throughput; returns why it ended."""
        peaks = each_case.evaluate_all(tasks)
        rounds = Rounds(tasks)
        rounds.split_pairs(peaks)
        reason = rounds.measure() or each_case.count(tasks) or each_case.measure_throughput(tasks)
        if tasks.stopping.is_set():
            return "max_time" if self.late else "stopped"
        return reason or "rounds"

    @contextlib.contextmanager
    def bounded(self, tasks: Tasks) -> Any:  # noqa: ANN401 - an iterator
        """Stop by itself when the longest time that the job may take is over, whatever it does then."""

        def end() -> None:
            self.late = True
            tasks.stop()

        timer = threading.Timer(self.request["longest"], end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def facts(self) -> Facts:
        """What the prober says of the device, right before measuring."""
        prober = os.path.join(self.store, "blobs", "sha256", self.request["prober"])
        words = [sys.executable, *child.ISOLATED, prober, self.runner, os.path.join(self.store, "imported")]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PROBE_SECONDS)
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                "its prober failed: " + child.ending(error.returncode, error.stderr.decode(errors="replace"))
            ) from None
        facts: Any = child.answer(done.stdout.decode(errors="replace"))
        if facts is None:
            raise SystemExit("its prober failed: " + child.unread(done.stdout.decode(errors="replace")))
        facts["runtime"] = os.environ.get("QUANT_HARNESS_RUNTIME")
        found: Facts = facts
        return found


if __name__ == "__main__":
    Job(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])).run()
