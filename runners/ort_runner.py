"""Measures ONNX models on this device with onnxruntime; PROTOCOL.md tells what it reads and writes.

One file for Python >= 3.9 that needs only numpy and onnxruntime. What is visited when is the business of job.py, which starts
this file anew for each visit; what the device is, that of prober.py; what is done once for a case, beside timing, that of ort_checks.py.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import glob
import json
import os
import random
import re
import resource
import runpy
import statistics
import sys
import time
import types
from typing import IO, Any, Callable

MESSAGE_LIMIT = 2000
# A block has at least so many iterations, unless one alone takes longer than LONG_BLOCK seconds.
LEAST_ITERATIONS, LONG_BLOCK = 3, 0.5
# Warm-up: two windows in a row whose medians differ by no more than this are steady.
STEADY, WINDOW_SECONDS, WINDOW_LEAST = 0.01, 0.01, 3
# A pair of blocks is disturbed when others had more than this share of the time, or the clock rate moved by more than that.
TAKEN, MOVED = 0.1, 0.05
# A sample is kept to at least 1/RESOLUTION of its block's median; the highest bit of a byte says that another group of seven follows.
RESOLUTION, CONTINUED = 8192, 128
CPU = "/sys/devices/system/cpu/"


def read_text(path: str) -> str | None:
    """A small file's text, stripped, or None."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).strip("\0\n ")
    except OSError:
        return None


def read_int(path: str) -> int | None:
    """A small file's integer, or None."""
    text = read_text(path)
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None


class Model:
    """One case's session, made and ready to be called."""

    def __init__(self, case: dict[str, Any], profile: str | None = None) -> None:
        import numpy as np
        import onnxruntime

        with np.load(case["inputs"], allow_pickle=False) as data:
            stacks = [data["arr_%d" % index] for index in range(len(case["names"]))]
        # asarray: an input without axes would come as a number, not as an array.
        self.feeds = [dict(zip(case["names"], map(np.asarray, sample))) for sample in zip(*stacks)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = case["threads"], 1, 3
        level = "ORT_DISABLE_ALL" if case["optimization"] == "disabled" else "ORT_ENABLE_" + case["optimization"].upper()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.enable_profiling, options.profile_file_prefix = profile is not None, profile or ""
        with open(case["model"], "rb") as file:
            if file.read(8)[4:] == b"ORTM":  # onnxruntime's own format, which it would know by the name alone, and that is a hash
                options.add_session_config_entry("session.load_model_format", "ORT")
        begun = time.perf_counter_ns()
        self.session = onnxruntime.InferenceSession(case["model"], options, providers=[case["provider"]])
        self.load_ns, self.first_ns = time.perf_counter_ns() - begun, 0
        self.names = [output.name for output in self.session.get_outputs()]
        halves = {each.name for each in self.session.get_inputs() if each.type == "tensor(float16)"}
        for feed in self.feeds:
            feed.update({name: feed[name].astype(np.float16) for name in halves & set(feed) if feed[name].dtype == np.float32})

    def first(self) -> Callable[[], object]:
        """Run once, and give the call that is timed: inputs and outputs bound in advance where they are plain tensors.

        Binding saves the copies and conversions that are Python's own; what remains is within 1 % of the C API at 1 ms.
        """
        import numpy as np
        import onnxruntime

        feed = self.feeds[0]
        begun = time.perf_counter_ns()
        outputs = self.session.run(self.names, feed)
        self.first_ns = time.perf_counter_ns() - begun
        plain = all(isinstance(each, np.ndarray) and each.dtype.kind in "fiub" for each in [*feed.values(), *outputs])
        is_open = any(not isinstance(size, int) for output in self.session.get_outputs() for size in output.shape)
        # Where shapes hang on random numbers, an output of one run has no room for the next one's.
        again = self.session.run(self.names, feed) if plain and is_open else outputs
        if not plain or any(one.shape != other.shape for one, other in zip(outputs, again)):
            return lambda: self.session.run(self.names, feed)
        binding = self.session.io_binding()
        bound = onnxruntime.OrtValue.ortvalue_from_numpy
        self.kept = [bound(np.require(each, requirements="C")) for each in [*feed.values(), *outputs]]
        for name, value in zip(feed, self.kept):
            binding.bind_ortvalue_input(name, value)
        for name, value in zip(self.names, self.kept[len(feed) :]):
            binding.bind_ortvalue_output(name, value)
        run = self.session.run_with_iobinding
        return lambda: run(binding)


def timed(call: Callable[[], object], seconds: float, least: int = LEAST_ITERATIONS) -> list[int]:
    """Time every iteration by itself, for so many seconds and so many iterations; nanoseconds of the monotonic clock."""
    clock = time.perf_counter_ns
    samples: list[int] = []
    before = clock()
    enough, limit = before + int(seconds * 1e9), before + int(max(seconds, LONG_BLOCK) * 1e9)
    while before < enough or (len(samples) < least and before < limit) or not samples:
        before = clock()
        call()
        after = clock()
        samples.append(after - before)
    return samples


def timed_in_turn(calls: list[Callable[[], object]], seconds: float, chance: random.Random) -> list[list[int]]:
    """Time two models call by call, the order within each pair of calls random: each finds the other's data in the caches."""
    clock = time.perf_counter_ns
    samples: list[list[int]] = [[], []]
    before = clock()
    enough, limit = before + int(2 * seconds * 1e9), before + int(2 * max(seconds, LONG_BLOCK) * 1e9)
    while before < enough or (len(samples[0]) < LEAST_ITERATIONS and before < limit) or not samples[0]:
        for index in (0, 1) if chance.getrandbits(1) else (1, 0):
            before = clock()
            calls[index]()
            after = clock()
            samples[index].append(after - before)
    return samples


def warm(call: Callable[[], object], limit: float) -> tuple[int, bool]:
    """Call until two windows in a row have medians within 1 %, for so many seconds at most.

    After Georges, Buytaert, Eeckhout (Statistically Rigorous Java Performance Evaluation, OOPSLA 2007), who take the coefficient of variation over a window; medians,
    for one interruption must not prolong it.

    Returns:
        How many calls, and whether they came to be steady.
    """
    begun, calls, last = time.perf_counter(), 0, 0.0
    while True:
        window = timed(call, WINDOW_SECONDS, WINDOW_LEAST)
        calls += len(window)
        middle = statistics.median(window)
        if last and abs(middle - last) <= STEADY * last:
            return calls, True
        # A model that takes seconds gets its second window too.
        if last and time.perf_counter() - begun > limit:
            return calls, False
        last = middle


def encode(samples: list[int]) -> dict[str, Any]:
    """Pack nanoseconds in about two bytes each: steps of at most 1/8192 of the median from it, as Protocol Buffers' sint64, in base64."""
    base = int(statistics.median(samples))
    unit = 1 << max(0, (base // RESOLUTION).bit_length() - 1)
    # A multiple of the unit: no rounding leads below zero.
    base -= base % unit
    packed = bytearray()
    for sample in samples:
        steps = (sample - base + unit // 2) // unit
        value = 2 * steps if steps >= 0 else -2 * steps - 1
        while value >= CONTINUED:
            packed.append(value % CONTINUED | CONTINUED)
            value >>= 7
        packed.append(value)
    return {"base": base, "unit": unit, "count": len(samples), "data": base64.b64encode(packed).decode()}


class Conditions:
    """What disturbs a measurement, read before and after it; what this device does not tell is left out."""

    def __init__(self) -> None:
        policies = {os.path.realpath(CPU + "cpu%d/cpufreq" % cpu) for cpu in os.sched_getaffinity(0)}
        self.frequencies = [path + "/scaling_cur_freq" for path in sorted(policies)[:4]]
        self.heats = glob.glob("/sys/class/thermal/thermal_zone*/temp")[:8]
        # x86 counts throttling; elsewhere the kernel's thermal framework holds the clock down through cooling devices.
        self.throttles = glob.glob(CPU + "cpu*/thermal_throttle/core_throttle_count")
        self.throttles += [
            os.path.dirname(path) + "/cur_state"
            for path in glob.glob("/sys/class/thermal/cooling_device*/type")
            if "cpufreq" in (read_text(path) or "")
        ]
        self.raspberry = "/sys/devices/platform/soc/soc:firmware/get_throttled"

    def read(self) -> dict[str, Any]:
        """One reading: kHz, °C, throttling as counted or flagged, ticks stolen by the hypervisor, interrupts, the load average."""
        found: dict[str, Any] = {}
        khz = [value for value in map(read_int, self.frequencies) if value is not None]
        heat = [value for value in map(read_int, self.heats) if value is not None]
        states = [value for value in map(read_int, self.throttles) if value is not None]
        flags = read_text(self.raspberry)
        counts = read_text("/proc/stat") or ""
        stat = re.match(r"cpu +(?:\d+ +){7}(\d+)", counts)
        interrupts = re.search(r"^intr (\d+)", counts, re.MULTILINE)
        load = (read_text("/proc/loadavg") or "").split()
        if khz:
            found["khz"] = max(khz)
        if heat:
            found["celsius"] = max(heat) / 1000.0
        if states:
            found["throttle"] = sum(states)
        if flags and re.fullmatch(r"(0x)?[0-9a-fA-F]+", flags):
            # Bits 0 to 3 are of now; from 16 on they are sticky.
            found["firmware"] = int(flags, 16) & 15
        if stat:
            found["steal_ns"] = int(stat.group(1)) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        if interrupts:
            found["interrupts"] = int(interrupts.group(1))
        if load:
            found["load"] = float(load[0])
        return found


def disturbances(pair: dict[str, Any], threads: int) -> list[str]:
    """Why a pair of blocks does not count, if it doesn't; PROTOCOL.md tells the rule."""
    before, after = pair["before"], pair["after"]
    wall = sum(pair["wall_ns"])
    found = []
    if threads == 1 and sum(pair["cpu_ns"]) < (1 - TAKEN) * wall:
        found.append("cpu")
    if any(pair["major_faults"]):
        found.append("faults")
    if "khz" in before and "khz" in after and abs(after["khz"] - before["khz"]) > MOVED * before["khz"]:
        found.append("frequency")
    if after.get("throttle", 0) > before.get("throttle", 0) or after.get("firmware"):
        found.append("throttled")
    stolen = (after.get("steal_ns", 0) - before.get("steal_ns", 0)) / (os.cpu_count() or 1)
    if stolen > max(MOVED * wall, 1e9 / os.sysconf("SC_CLK_TCK")):
        found.append("steal")
    return found


def usage() -> tuple[int, int, int, int, int]:
    """CPU nanoseconds, involuntary context switches, minor and major page faults so far, and the clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.process_time_ns(), used.ru_nivcsw, used.ru_minflt, used.ru_majflt, time.perf_counter_ns()


def blocks(calls: list[Callable[[], object]], order: list[int], task: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """One pair of blocks, or one block of a model alone, with what it cost beside time."""
    samples: list[list[int]] = [[] for _ in calls]
    marks = []
    if task["turns"] and len(calls) > 1:
        begun = usage()
        samples = timed_in_turn(calls, task["block"], chance)
        marks.append((begun, usage()))
    else:
        for index in order:
            task["failing"] = task["cases"][index]["id"]
            # Whoever comes second finds the caches full of the other's: the first call is not counted.
            calls[index]()
            begun = usage()
            samples[index] = timed(calls[index], task["block"])
            marks.append((begun, usage()))
    costs = [[end - start for start, end in zip(*mark)] for mark in marks]
    found = dict(zip(("cpu_ns", "switches", "minor_faults", "major_faults", "wall_ns"), (list(cost) for cost in zip(*costs))))
    return dict(found, order=order, medians=[statistics.median(each) for each in samples], samples=samples)


def rebuild(cases: list[dict[str, Any]], task: dict[str, Any], chance: random.Random, conditions: Conditions) -> dict[str, Any]:
    """Make the sessions anew, warm them up, and measure them in blocks side by side; a failure names its case."""
    order = chance.sample(range(len(cases)), len(cases))
    models: dict[int, Model] = {}
    calls: list[Callable[[], object]] = [lambda: None for _ in cases]
    warmed: list[tuple[int, bool]] = [(0, False) for _ in cases]
    for index in order:
        task.update(step="load", failing=cases[index]["id"])
        models[index] = Model(cases[index])
        task["step"] = "run"
        calls[index] = models[index].first()
    for index in order:
        task["failing"] = cases[index]["id"]
        warmed[index] = warm(calls[index], task["warmup"])
    task["failing"] = None
    pairs: list[dict[str, Any]] = []
    before = conditions.read()
    # A disturbed pair is measured again, as often as there are pairs; it stays in the record.
    most = task["pairs"]
    while not pairs or (
        sum(not pair["disturbed"] for pair in pairs) < most > len(pairs) // 2 and time.monotonic() < task["deadline"]
    ):
        pair = blocks(calls, chance.sample(range(len(cases)), len(cases)), task, chance)
        pair["before"], pair["after"] = before, conditions.read()
        before = pair["after"]
        pair["disturbed"] = disturbances(pair, max(case["threads"] for case in cases))
        pair["samples"] = [encode(each) for each in pair["samples"]]
        pairs.append(pair)
    indices = range(len(cases))
    return {
        "order": order, "load_ns": [models[index].load_ns for index in indices], "first_ns": [models[index].first_ns for index in indices],
        "warmup": [calls for calls, _ in warmed], "steady": [steady for _, steady in warmed], "pairs": pairs,
    }  # fmt: skip


def duet(task: dict[str, Any]) -> dict[str, Any]:
    """Measure two cases side by side, or one alone: sessions rebuilt again and again in this process."""
    chance = random.Random(task["seed"])  # noqa: S311 - an order, no secret
    conditions = Conditions()
    task["deadline"] = time.monotonic() + task["launch"]
    rebuilds: list[dict[str, Any]] = []
    gc.disable()
    # Where one rebuild takes long, more processes replace more rebuilds.
    while len(rebuilds) < task["rebuilds"] and (not rebuilds or time.monotonic() < task["deadline"]):
        rebuilds.append(rebuild(task["cases"], task, chance, conditions))
        gc.collect()
    return {"event": "duet", "cases": [case["id"] for case in task["cases"]], "peak_bytes": peak_bytes(), "rebuilds": rebuilds}


def peak_bytes() -> int | None:
    """This process's resident high-water mark; ru_maxrss would start at the parent's."""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", read_text("/proc/self/status") or "", re.MULTILINE)
    return int(peak.group(1)) * 1024 if peak else None


def pin(cpus: list[int] | None) -> None:
    """Keep this process on these cores; the kernel would leave out one that is not there, and measure another choice without a word."""
    if not cpus:
        return
    with contextlib.suppress(OSError):  # where it can have none of them
        os.sched_setaffinity(0, cpus)
    if os.sched_getaffinity(0) != set(cpus):
        raise RuntimeError(
            "the worker is to be pinned to cpus %s, but the system allows only %s"
            % (sorted(cpus), sorted(os.sched_getaffinity(0)))
        )


def own_output() -> IO[str]:
    """Standard output as a file of its own: what libraries print, in Python or in C, becomes standard error from here on."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answer


def worker() -> None:
    """One task, in this fresh process."""
    task = json.load(sys.stdin)
    answer = own_output()
    task.update(step="load", failing=task["cases"][0]["id"])
    try:
        pin(task.get("cpus"))
        if task["task"] == "duet":
            result = duet(task)
        else:
            result = runpy.run_path(task["checks"])["TASKS"][task["task"]](task, types.SimpleNamespace(**globals()))
    except Exception as error:  # noqa: BLE001 - whatever a model does to onnxruntime is this case's outcome
        scarce = isinstance(error, MemoryError) or re.search(r"bad_alloc|[Ff]ailed to allocate", str(error))
        kind = "memory" if scarce else task["step"]
        message = re.sub(r"\s+", " ", "%s: %s" % (type(error).__name__, error))
        message = message.replace(os.path.dirname(task["cases"][0]["model"]) + "/", "")
        result = {"event": "failed", "kind": kind, "message": message[:MESSAGE_LIMIT], "case": task["failing"]}
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
