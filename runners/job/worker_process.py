"""One task of the runner in a fresh process, with limits on its time and its memory."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Callable

import child

if TYPE_CHECKING:
    from protocol_runner import Failure, Result, Task

# A worker that was killed is gone after this; if not, the kernel holds it, or a child of it holds its pipes.
KILL_SECONDS = 5.0


class WorkerProcess:
    """Runs tasks, one after the other.

    Args:
        runner: the runner's program.
        timeout: the seconds that a task may take.
        memory: the bytes of data that a worker may have; None is without a limit.
        inherited: gives the descriptors that a worker keeps open.
    """

    def __init__(self, runner: str, timeout: float, memory: int | None, inherited: Callable[[], list[int]]) -> None:
        self.runner, self.timeout, self.memory, self.inherited = runner, timeout, memory, inherited
        self.process: subprocess.Popen[str] | None = None

    def kill(self) -> None:
        """End the worker that runs, if one does."""
        if self.process is not None:
            self.process.kill()

    def run(self, task: Task) -> Result:
        """Run one task; how its process ends is the outcome."""
        runtime = task["cases"][0].get("runtime")
        path = os.pathsep.join(filter(None, [runtime, os.environ.get("QUANT_HARNESS_PATH")]))
        process = self.process = subprocess.Popen(
            [sys.executable, *child.ISOLATED, self.runner, "worker"], env=dict(os.environ, QUANT_HARNESS_PATH=path),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            pass_fds=self.inherited(),
        )  # fmt: skip
        bound(process.pid, self.memory)
        try:
            out, log = process.communicate(json.dumps(task), timeout=self.timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=KILL_SECONDS)
            return {"event": "failed", "kind": "timeout", "message": "no result after %g s" % self.timeout}
        said: Any = child.answer(out, "event") if process.returncode == 0 else None
        if said is None:
            crash = child.unread(out) if out else child.ending(process.returncode, log)
            return self.with_limit({"event": "failed", "kind": "crash", "message": crash})
        result: Result = said
        return self.with_limit(result) if result["event"] == "failed" else result

    def with_limit(self, failure: Failure) -> Failure:
        """Name the limit of memory in a failure that may come from it."""
        if self.memory and failure["kind"] in ("crash", "memory"):
            failure["message"] += " (its limit is %.1f MB: memory in devices.toml)" % (self.memory / 1e6)
        return failure


def bound(pid: int, memory: int | None) -> None:
    """Limit what a worker may take before it begins, and let the kernel end it, not the job, where memory runs out."""
    with contextlib.suppress(OSError), open("/proc/%d/oom_score_adj" % pid, "w", encoding="ascii") as file:
        file.write("1000")
    if memory:
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (memory, memory))
