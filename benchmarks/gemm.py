"""What this processor's integer kernels give: MatMulInteger by type against a float MatMul of the same shape, in turn.

A table of variants says how fast a model is; this says whether the kernels explain it. One thread, the shape of a 3x3 convolution of 64
channels over 32x32 positions.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import harness  # noqa: F401 - switches onnxruntime's telemetry off

ROWS, INNER, COLUMNS = 1024, 576, 64
TYPES = {"fp32": None, "U8S8": (np.uint8, np.int8), "U8U8": (np.uint8, np.uint8), "S8S8": (np.int8, np.int8)}
CALLS = 5


def session(name: str) -> tuple[ort.InferenceSession, dict[str, np.ndarray]]:
    """A model of one multiplication, and its input."""
    chance = np.random.default_rng(0)
    kinds = TYPES[name]
    left, right = kinds or (np.float32, np.float32)
    x = chance.integers(0, 127, (ROWS, INNER)).astype(left)
    weights = chance.integers(0, 127, (INNER, COLUMNS)).astype(right)
    node = helper.make_node("MatMulInteger" if kinds else "MatMul", ["x", "w"], ["y"])
    given = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(left)), x.shape)
    made = helper.make_tensor_value_info("y", TensorProto.INT32 if kinds else TensorProto.FLOAT, [ROWS, COLUMNS])
    graph = helper.make_graph([node], name, [given], [made], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), {"x": x}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Run the types in random order, round after round; gives medians of milliseconds and of each round's ratio to fp32."""
    made = {name: session(name) for name in TYPES}
    times: dict[str, list[float]] = {name: [] for name in TYPES}
    for _ in range(rounds):
        for name in random.sample(list(TYPES), len(TYPES)):
            runner, feed = made[name]
            runner.run(None, feed)
            begun = time.perf_counter()
            for _ in range(CALLS):
                runner.run(None, feed)
            times[name].append((time.perf_counter() - begun) / CALLS)
    operations = 2 * ROWS * INNER * COLUMNS
    return {
        name: {
            "milliseconds": 1e3 * statistics.median(found),
            "gop_per_second": operations / statistics.median(found) / 1e9,
            "times_fp32": statistics.median(base / own for base, own in zip(times["fp32"], found, strict=True)),
        }
        for name, found in times.items()
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    found = measure(options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    for name, row in found.items():
        print(f"{name:5} {row['milliseconds']:7.3f} ms {row['gop_per_second']:7.0f} GOP/s {row['times_fp32']:6.2f} x fp32")


if __name__ == "__main__":
    main()
