"""Measures ONNX models on this device with onnxruntime: one task in one process. PROTOCOL.md tells what it reads and writes.

A few modules, pushed as one file, for Python >= 3.9 with numpy and onnxruntime. Which task comes when is the business of the job, which
starts this program anew for each task; what the device is, that of the prober.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, TYPE_CHECKING

import failure
import process

if TYPE_CHECKING:
    from protocol_runner import Result, Task


def own_output() -> IO[str]:
    """Standard output as a file of its own: what libraries print, in Python or in C, becomes standard error from here on."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answer


def carry_out(task: Task, stage: failure.Stage) -> Result:
    """Carry out a task. Its module is imported only then: a small board compiles no more than it runs."""
    if task["task"] == "duet":
        import launch

        return launch.Launch(task, stage).run()
    if task["task"] == "evaluate":
        import outputs

        return outputs.evaluate(task, stage)
    if task["task"] == "count":
        import counting

        return counting.count(task, stage)
    import throughput

    return throughput.throughput(task, stage)


def worker() -> None:
    """One task, in this fresh process."""
    task: Task = json.load(sys.stdin)
    answer = own_output()
    stage = failure.Stage(task["cases"][0]["id"])
    try:
        process.pin(task.get("cpus"))
        result = carry_out(task, stage)
    except Exception as error:  # noqa: BLE001 - whatever a model does to onnxruntime is this case's outcome
        result = failure.failure(error, task, stage)
    answer.write(json.dumps(result) + "\n")
    answer.close()


def main(words: list[str]) -> int:
    """Run one command."""
    # onnxruntime >= 1.29 sends telemetry from a thread of its own: neither for a lab's network nor good for a measurement.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Where the agent found numpy and onnxruntime: Python, started with -I -S, looks for none itself.
    sys.path += filter(None, os.environ.get("QUANT_HARNESS_PATH", "").split(os.pathsep))
    if words == ["runtime"]:
        with own_output() as answer:
            import numpy as np
            import onnxruntime as ort

            found = {"version": ort.__version__, "providers": ort.get_available_providers()}
            answer.write(json.dumps({"numpy": np.__version__, "onnxruntime": found}) + "\n")
    elif words == ["worker"]:
        worker()
    else:
        sys.stdout.write(json.dumps({"event": "error", "kind": "usage", "message": "commands: runtime, worker"}) + "\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
