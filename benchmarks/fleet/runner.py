"""A runner that sleeps in place of computing: what it answers has the shape and the size of a real one's (runners/PROTOCOL.md).

A standard library's Python is enough. A visit to a pair takes as long as its request's ``launch``.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import random
import struct
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

EVALUATION_SECONDS = 0.5
OUTPUTS = 10
MILLISECONDS = (0.4, 2.0)
LOAD_NS, FIRST_NS, PEAK = 6_000_000, 2_000_000, 80_000_000


def array(values: list[float]) -> bytes:
    """One row of float32 numbers as an .npy file."""
    header = repr({"descr": "<f4", "fortran_order": False, "shape": (1, len(values))}).encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack(f"<{len(values)}f", *values)


def rows(path: str) -> int:
    """How many samples a file of inputs has."""
    with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
        _magic, size = file.read(8), struct.unpack("<H", file.read(2))[0]
        shape: tuple[int, ...] = ast.literal_eval(file.read(size).decode())["shape"]
    return shape[0]


def evaluate(task: dict[str, Any]) -> dict[str, Any]:
    """Outputs of as many numbers as digits there are, for every sample."""
    time.sleep(EVALUATION_SECONDS)
    chance, buffer = random.Random(task["cases"][0]["id"]), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(rows(task["cases"][0]["inputs"])):
            archive.writestr(f"arr_{index}.npy", array([chance.uniform(-5, 5) for _ in range(OUTPUTS)]))
    data = buffer.getvalue()
    place = Path(task["outputs"])
    place.write_bytes(data)
    described = {"name": place.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    costs = {"load_ns": LOAD_NS, "first_ns": FIRST_NS, "peak_bytes": PEAK, "seconds": EVALUATION_SECONDS}
    return {"event": "evaluated", "outputs": described, "graph": None, **costs}


def samples(median: int, block: float) -> dict[str, Any]:
    """Iterations of a block, packed: some per cent around their median, two bytes each."""
    count = max(3, int(block * 1e9 / median))
    steps = [random.randint(128, 1000) for _ in range(count)]
    data = b"".join(bytes((step % 128 | 128, step // 128)) for step in steps)
    unit = 1 << max(0, (median // 8192).bit_length() - 1)
    return {"base": median - median % unit, "unit": unit, "count": count, "data": base64.b64encode(data).decode()}


def duet(task: dict[str, Any]) -> dict[str, Any]:
    """Two cases side by side, or one alone."""
    time.sleep(task["launch"])
    cases = [case["id"] for case in task["cases"]]
    each = len(cases)
    state = {"khz": None, "celsius": None, "throttle": None, "firmware": None, "steal_ns": 0, "load": 0.0}
    rebuilds = []
    for _ in range(task["rebuilds"]):
        pairs = []
        for _ in range(task["pairs"]):
            medians = [int(1e6 * random.Random(name).uniform(*MILLISECONDS) * random.uniform(0.99, 1.01)) for name in cases]
            spent = [int(1e9 * task["block"])] * each
            costs = {"wall_ns": spent, "cpu_ns": spent, "switches": [0] * each, "minor_faults": [0] * each}
            found = {"order": list(range(each)), "medians": medians, "samples": [samples(one, task["block"]) for one in medians]}
            pairs.append({**found, **costs, "major_faults": [0] * each, "before": state, "after": state, "disturbed": []})
        made = {"order": list(range(each)), "load_ns": [LOAD_NS] * each, "first_ns": [FIRST_NS] * each}
        rebuilds.append({**made, "warmup": [50] * each, "steady": [True] * each, "pairs": pairs})
    return {"event": "duet", "cases": cases, "peak_bytes": PEAK, "rebuilds": rebuilds}


def main(words: list[str]) -> None:
    """Answer one command."""
    if words == ["runtime"]:
        answer: dict[str, Any] = {"numpy": "none", "onnxruntime": {"version": "asleep", "providers": ["CPUExecutionProvider"]}}
    else:
        task = json.load(sys.stdin)
        answer = {"evaluate": evaluate, "duet": duet}[task["task"]](task)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
