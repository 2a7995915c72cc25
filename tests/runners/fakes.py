"""A job without onnxruntime: a runner and a prober that are a few lines of Python, so that a test says what they do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.devices import program

# What a worker does for a case is the code that stands in its model; what it leaves in 'said' is its answer.
RUNNER = """
import json, os, signal, sys, time
task = json.load(sys.stdin)
said = {
    "evaluate": {"event": "evaluated", "outputs": {"name": "x", "size": 0, "sha256": "0" * 64}, "seconds": 0.0,
                 "load_ns": 1, "first_ns": 1},
    "duet": {"event": "duet", "cases": [case["id"] for case in task["cases"]],
             "rebuilds": [{"pairs": [{"medians": [1.0 for _ in task["cases"]], "disturbed": []}]}]},
}[task["task"]]
for case in task["cases"]:
    with open(case["model"]) as file:
        exec(file.read())
print(said if isinstance(said, str) else json.dumps(said))
"""
PROBER = "print('{}')"
WELL = "pass"


def place(store: Path, job: str, *models: str, prober: str = PROBER, **changes: Any) -> Path:
    """Make a job's folder in a store, with a case for each model's code, each measured alone."""
    blobs = store / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(text: str) -> str:
        name = hashlib.sha256(text.encode()).hexdigest()
        (blobs / name).write_text(text)
        return name

    cases = [{"id": f"c{number}", "model": blob(code), "inputs": blob("")} for number, code in enumerate(models)]
    request = {
        "protocol": 4, "prober": blob(prober), "who": {}, "wait": 0, "cases": cases, "units": [[case["id"]] for case in cases],
        "seed": 1, "rounds": 2, "least_rounds": 2, "precision": 1e-9, "t": [12.7, 4.3], "turns": False, "rebuilds": 1, "pairs": 1,
        "block": 0.001, "warmup": 0.001, "launch": 1.0, "max_time": 600.0, "longest": 900.0, "timeout": 120.0, "samples": None,
        "counter": None, "count_rounds": 0, "throughput": [], "throughput_rounds": 0,
    }  # fmt: skip
    blob(RUNNER)
    folder = store / "jobs" / job
    (folder / "outputs").mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps(request | changes))
    return folder


def words(folder: Path, runner: Path | None = None) -> list[str]:
    """The command that carries a job out."""
    runner = runner or folder.parent.parent / "blobs" / "sha256" / hashlib.sha256(RUNNER.encode()).hexdigest()
    return [sys.executable, str(program.job()), str(folder), str(runner)]


def begin(folder: Path, *inherited: int, runner: Path | None = None, **env: str) -> subprocess.Popen[str]:
    """Start a job as the agent does: in a session of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words(folder, runner),
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
        env={**os.environ, **env},
        pass_fds=inherited,
    )


def carry_out(folder: Path, runner: Path | None = None, **env: str) -> tuple[int, str]:
    """Run a job to its end; gives its code and standard error."""
    with begin(folder, runner=runner, **env) as process:
        _, log = process.communicate(timeout=100)
    return process.returncode, log


def journal(folder: Path) -> list[dict[str, Any]]:
    """What a job wrote so far, whole lines."""
    path = folder / "journal.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def named(folder: Path, event: str) -> list[dict[str, Any]]:
    """The lines of one event."""
    return [line for line in journal(folder) if line["event"] == event]


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The processes that one started."""
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def alive(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
