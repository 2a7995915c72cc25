"""Measures models against copies of themselves, and against models that really do more work, as the gate does: process after process.

A cell is a pair of models under one condition of the machine. What was measured is kept raw, so that every rule can be tried on it later.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from conditions import condition
from models import CNN, CNN_BRANCH, LARGE, MIXED, MLP, MLP_BRANCH, SLOWER, TAIL, make_models

from harness.devices import program
from harness.measure import request
from harness.study.study import MeasureSection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Launch = tuple[dict[str, Any], float]
SAME = (MLP, CNN, LARGE)
# What is really different: which model, and what it is measured against.
REAL = {
    "a convolution more": (CNN, SLOWER),
    "1 call in 10 twice as long": (MLP_BRANCH, TAIL),
    "7 of 10 calls do more": (CNN_BRANCH, MIXED),
}


def launches(first: Path, second: Path, inputs: Path, count: int, **changes: object) -> Iterator[Launch]:
    """Measure two models side by side in so many processes, as a job does, or with changes to the task: what each said, and its seconds."""
    measure = MeasureSection()
    for _ in range(count):
        case = {"inputs": str(inputs), "names": ["x"], "threads": 1, "provider": "CPUExecutionProvider", "optimization": "all"}
        task = {
            "task": "duet", "seed": random.getrandbits(32), "turns": False, "pairs": request.PAIRS, "cpus": None,
            "rebuilds": measure.rebuilds, "block": measure.block, "warmup": measure.warmup, "launch": measure.launch,
            "cases": [{**case, "id": "c0", "model": str(first)}, {**case, "id": "c1", "model": str(second)}], **changes,
        }  # fmt: skip
        begun = time.perf_counter()
        command = [sys.executable, str(program.runner()), "worker"]
        done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=True)
        yield json.loads(done.stdout), time.perf_counter() - begun


def cells(
    folder: Path, count: int, models: Sequence[str], conditions: Sequence[str], real: Sequence[str]
) -> Iterator[tuple[str, list[Launch]]]:
    """Measure every cell; "MODEL, CONDITION" names one without a difference, "WHAT, CONDITION" one with a real one."""
    make_models(folder)
    for name in models:
        shutil.copy(folder / f"{name}.onnx", folder / f"{name}-copy.onnx")
    pairs = {name: (name, f"{name}-copy") for name in models} | {name: REAL[name] for name in real}
    for state in conditions:
        for name, (first, second) in pairs.items():
            if name in REAL and state not in {"quiet", "two neighbours"}:
                continue
            # A process of the large model takes ten times as long.
            processes = max(count * 3 // 5, 2) if name == LARGE else count
            with condition(state):
                found = list(launches(folder / f"{first}.onnx", folder / f"{second}.onnx", inputs_of(folder, first), processes))
            yield f"{name}, {state}", found


def inputs_of(folder: Path, name: str) -> Path:
    """The inputs of one of the models, as a file that a runner reads."""
    made = folder / f"{name}.npz"
    if not made.exists():
        shape = [dim.dim_value for dim in onnx.load(folder / f"{name}.onnx").graph.input[0].type.tensor_type.shape.dim]
        np.savez(made, np.fromfile(folder / f"{name}.bin", dtype=np.float32).reshape([1, *shape]))
    return made
