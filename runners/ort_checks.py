"""What is done once for a case, beside timing it: outputs, operators and instruction counts; PROTOCOL.md tells what it reads and writes.

One file for Python >= 3.9 that needs only numpy and onnxruntime. ort_runner.py loads it in a worker and hands itself over, for
sessions are made in one way only; prober.py asks it what a device's kernel counts, for which it needs neither.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
import struct
import threading
import time
from typing import Any

COUNT_WARMUP = 2
PROFILED_RUNS = 3
NAMED = 20
# Two runs are the same if the signal's power is so many times that of their difference: 80 dB, and 50 dB in float16.
SAME, SAME_HALF = 1e8, 1e5
# Of perf_event_open, from the kernel's system call tables; PERF_TYPE_HARDWARE's numbers from linux/perf_event.h.
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "armv7l": 364, "ppc64le": 319, "riscv64": 241}
PERF_EVENTS = {"instructions": 1, "cycles": 0}


def open_counter(event: str) -> int:
    """Open a kernel counter of this process and the threads that it starts, user space only; perf_event_open(2).

    Returns:
        A file descriptor that gives the count, and how long it was enabled and running, eight bytes each.
    """
    try:
        import ctypes
    except ImportError:  # a Python that was built or packaged without it, as some small systems have it
        raise OSError("its Python %s has no ctypes" % platform.python_version()) from None
    number = PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise OSError("perf_event_open is not known on %s" % platform.machine())
    inherit, exclude_kernel, exclude_hypervisor, enabled_and_running = 1 << 1, 1 << 5, 1 << 6, 3
    flags = inherit | exclude_kernel | exclude_hypervisor
    attributes = struct.pack("=IIQQQQQIIQ", 0, 64, PERF_EVENTS[event], 0, 0, enabled_and_running, flags, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    opened: int = libc.syscall(ctypes.c_long(number), attributes, 0, -1, -1, 0)
    if opened < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return opened


def read_counter(opened: int) -> int:
    """The count so far; a counter that had to share the hardware is refused."""
    count, enabled, running = struct.unpack("=QQQ", os.read(opened, 24))
    if running < enabled:
        share = 100.0 * running / enabled
        raise RuntimeError("the counter ran %.0f %% of the time only: others use the hardware's counters" % share)
    return int(count)


def uncountable() -> str | None:
    """Why this device's kernel does not count instructions, or None when it does."""
    try:
        opened = open_counter("instructions")
        try:
            return None if read_counter(opened) else "the kernel's counter stays at zero"
        finally:
            os.close(opened)
    except (OSError, RuntimeError) as error:
        if isinstance(error, PermissionError):
            with open("/proc/sys/kernel/perf_event_paranoid", encoding="utf-8") as file:
                paranoid = file.read().strip()
            return "not permitted: kernel.perf_event_paranoid is %s; 2 or less is needed" % paranoid
        return "no counter in this processor or virtual machine (%s)" % (getattr(error, "strerror", None) or error)


def evaluate(task: dict[str, Any], runner: Any) -> dict[str, Any]:  # noqa: ANN401 - the runner, as a module
    """Compute the outputs of every sample; the numeric ones go to an .npz file, sample by sample."""
    import numpy as np

    (case,) = task["cases"]
    model = runner.Model(case)
    task["step"] = "run"
    model.first()
    peak = runner.peak_bytes()
    begun = time.perf_counter()
    outputs = [output for feed in model.feeds[: task["samples"]] for output in model.session.run(None, feed)]
    seconds = round(time.perf_counter() - begun, 3)
    again = model.session.run(None, model.feeds[0])
    differing = [index for index, pair in enumerate(zip(outputs, again)) if not same(*pair)]
    arrays = [output for output in outputs if isinstance(output, np.ndarray) and output.dtype.kind in "fiub"]
    path = task["outputs"]
    with open(path, "wb") as file:
        np.savez(file, *arrays)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    described = {"name": os.path.basename(path), "size": os.path.getsize(path), "sha256": digest}
    found = {"event": "evaluated", "outputs": described, "seconds": seconds, "load_ns": model.load_ns, "first_ns": model.first_ns}
    del model
    return dict(found, peak_bytes=peak, graph=operators(case, path, runner), differing=differing)


def same(first: Any, second: Any) -> bool:  # noqa: ANN401 - whatever a model gives
    """Whether two runs gave the same output: floats to 80 dB (float16: to 50 dB), for threads may add in another order; integers exactly.

    NaN is the same as NaN. What is no numeric tensor is not compared with fp32's either, and not looked at.
    """
    import numpy as np

    if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiub":
        return True
    if first.shape != second.shape or first.dtype.kind != "f" or np.array_equal(first, second):
        return bool(np.array_equal(first, second))
    finite = np.isfinite(first)
    rest, others = (np.nan_to_num(side[~finite], nan=0.0) for side in (first, second))
    if not all(map(np.array_equal, (finite, np.isnan(first), rest), (np.isfinite(second), np.isnan(second), others))):
        return False
    one, other = (side[finite].astype(np.float64) for side in (first, second))
    noise, signal = float(np.sum((one - other) ** 2)), float(np.sum(one**2))
    return not noise or signal >= (SAME_HALF if first.dtype == np.float16 else SAME) * noise


def operators(case: dict[str, Any], prefix: str, runner: Any) -> dict[str, Any] | None:  # noqa: ANN401 - the same
    """What onnxruntime runs after its optimizations: each node as its profiler names it, with the time of each operator.

    Never a measurement: the profiler slows what it watches. None where the provider's profile does not tell.
    """
    model = runner.Model(case, prefix)
    for _ in range(PROFILED_RUNS + 1):
        model.session.run(model.names, model.feeds[0])
    path = model.session.end_profiling()
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


def count(task: dict[str, Any], runner: Any) -> dict[str, Any]:  # noqa: ANN401 - the runner, as a module
    """Count every iteration's instructions, and cycles where the kernel counts.

    On an icount board the clock counts instructions: one is a nanosecond (QEMU, -icount shift=0).
    """
    import onnxruntime  # noqa: F401 - its own threads must not be counted

    # Before the session: counters cover only threads that are started later.
    counters = {name: open_counter(name) for name in PERF_EVENTS} if task["counter"] == "perf" else {}
    model = runner.Model(task["cases"][0])
    task["step"] = "run"
    session, names, feed = model.session, model.names, model.feeds[0]
    counted: dict[str, list[int]] = {name: [] for name in counters or ("instructions",)}
    for _ in range(COUNT_WARMUP):
        session.run(names, feed)
    gc.collect()
    gc.disable()
    for _ in range(task["count_iterations"]):
        before = [read_counter(opened) for opened in counters.values()] or [time.perf_counter_ns()]
        session.run(names, feed)
        after = [read_counter(opened) for opened in counters.values()] or [time.perf_counter_ns()]
        for name, start, end in zip(counted, before, after):
            counted[name].append(end - start)
    return {
        "event": "counted",
        "counter": task["counter"],
        "load_ns": model.load_ns,
        "peak_bytes": runner.peak_bytes(),
        **counted,
    }


def throughput(task: dict[str, Any], runner: Any) -> dict[str, Any]:  # noqa: ANN401 - the runner, as a module
    """Inferences per second of several sessions at once, each in a thread of its own."""
    models = [runner.Model(task["cases"][0]) for _ in range(task["sessions"])]
    task["step"] = "run"
    calls = [model.first() for model in models]
    for call in calls:
        runner.warm(call, task["warmup"])
    ready, done, errors = threading.Barrier(len(calls)), [0] * len(calls), []
    ends = [(0, 0)] * len(calls)

    def loop(index: int) -> None:
        call, number, clock = calls[index], 0, time.perf_counter_ns
        try:
            ready.wait()
            begun = now = clock()
            while now - begun < task["throughput_seconds"] * 1e9:
                call()
                number += 1
                now = clock()
            done[index], ends[index] = number, (begun, now)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    wall_ns = max(end for _, end in ends) - min(begun for begun, _ in ends)
    found = {"event": "throughput", "sessions": len(calls), "inferences": sum(done)}
    return dict(found, wall_ns=wall_ns, peak_bytes=runner.peak_bytes())


TASKS = {"evaluate": evaluate, "count": count, "throughput": throughput}
