"""What onnxruntime runs after its optimizations, as its profiler reports it."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import model

if TYPE_CHECKING:
    from protocol import Case
    from protocol_runner import Graph

PROFILED_RUNS = 3
NAMED = 20


def operators(case: Case, prefix: str) -> Graph | None:
    """What onnxruntime runs after its optimizations: each node as its profiler names it, with the time of each operator.

    Never a measurement: the profiler slows what it watches. None where the provider's profile does not tell.
    """
    profiled = model.Model(case, prefix)
    for _ in range(PROFILED_RUNS + 1):
        profiled.session.run(profiled.names, profiled.feeds[0])
    path = profiled.session.end_profiling()
    with open(path, encoding="utf-8") as file:
        said = json.load(file)
    os.remove(path)
    nodes = [event for event in said if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    each = len(nodes) // (PROFILED_RUNS + 1)
    if not each or len(nodes) % (PROFILED_RUNS + 1):
        return None
    kinds: dict[tuple[str, str], list[int]] = {}
    for event in nodes[each:]:
        kinds.setdefault((event["args"]["op_name"], event["args"].get("provider", "")), []).append(event["dur"])
    once = nodes[:each]
    keys = ("op_name", "provider", "input_type_shape", "output_type_shape")
    # In no order of nodes: where the graph branches, that is the scheduler's own.
    shapes = sorted(json.dumps([event["args"].get(key) for key in keys], sort_keys=True) for event in once)
    names = [event["name"][: -len("_kernel_time")] for event in once]
    left = {"QuantizeLinear", "DequantizeLinear", "Cast"}
    return {
        "fingerprint": hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16],
        "nodes": each,
        "ops": [
            {"op": op, "provider": provider, "count": len(spent) // PROFILED_RUNS, "microseconds": sum(spent) / PROFILED_RUNS}
            for (op, provider), spent in sorted(kinds.items())
        ],
        "left": [name[:200] for name, event in zip(names, once) if event["args"]["op_name"] in left][:NAMED],
    }  # fmt: skip
