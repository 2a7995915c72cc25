"""A runner that sleeps in place of computing: what it answers has the shape and the size of a real one's (runners/PROTOCOL.md).

A standard library's Python is enough. A visit to a pair takes as long as its request's ``launch``. Many boards share this machine's processors, so that
it must cost little beside its sleep: modules are imported where they are needed, and numbers are drawn once.
"""

# ruff: noqa: PLC0415
from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# As the digits study takes here.
EVALUATION_SECONDS = 1.5
OUTPUTS = 10
MILLISECONDS = (0.4, 2.0)
LOAD_NS, FIRST_NS, PEAK = 6_000_000, 2_000_000, 80_000_000


def evaluate(task: dict[str, Any]) -> dict[str, Any]:
    """Outputs of as many numbers as there are digits, for every sample of the inputs."""
    import ast
    import hashlib
    import io
    import struct
    import zipfile
    from pathlib import Path

    time.sleep(EVALUATION_SECONDS)
    with zipfile.ZipFile(task["cases"][0]["inputs"]) as archive, archive.open("arr_0.npy") as file:
        size = struct.unpack("<8xH", file.read(10))[0]
        samples = ast.literal_eval(file.read(size).decode())["shape"][0]
    header = repr({"descr": "<f4", "fortran_order": False, "shape": (1, OUTPUTS)}).encode().ljust(117) + b"\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    buffer, chance = io.BytesIO(), os.urandom(samples + OUTPUTS)
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(samples):
            archive.writestr(f"arr_{index}.npy", start + struct.pack(f"<{OUTPUTS}f", *chance[index : index + OUTPUTS]))
    data, place = buffer.getvalue(), Path(task["outputs"])
    place.write_bytes(data)
    described = {"name": place.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    costs = {"load_ns": LOAD_NS, "first_ns": FIRST_NS, "peak_bytes": PEAK, "seconds": EVALUATION_SECONDS}
    return {"event": "evaluated", "outputs": described, "graph": None, **costs}


def drawn() -> float:
    """A number between 0 and 1."""
    return int.from_bytes(os.urandom(4), "little") / 2**32


def samples(median: int, block: float) -> dict[str, Any]:
    """Iterations of a block, packed: some per cent around their median, two bytes each."""
    from binascii import b2a_base64

    count = max(3, int(block * 1e9 / median))
    chance = os.urandom(2 * count)
    data = bytes(byte | 128 if place % 2 == 0 else byte % 8 + 1 for place, byte in enumerate(chance))
    unit = 1 << max(0, (median // 8192).bit_length() - 1)
    return {"base": median - median % unit, "unit": unit, "count": count, "data": b2a_base64(data, newline=False).decode()}


def duet(task: dict[str, Any]) -> dict[str, Any]:
    """Two cases side by side, or one alone."""
    time.sleep(task["launch"])
    cases = [case["id"] for case in task["cases"]]
    each = len(cases)
    # Each case has a level of its own, between the two ends.
    least, most = MILLISECONDS
    levels = [1e6 * (least + (most - least) * int(name[1:]) / (int(name[1:]) + 5)) for name in cases]
    state = {"khz": None, "celsius": None, "throttle": None, "firmware": None, "steal_ns": 0, "load": 0.0}
    rebuilds = []
    for _ in range(task["rebuilds"]):
        pairs = []
        for _ in range(task["pairs"]):
            medians = [int(level * (0.99 + 0.02 * drawn())) for level in levels]
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
