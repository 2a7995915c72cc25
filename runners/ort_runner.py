"""Measures ONNX models on this device with onnxruntime; PROTOCOL.md tells what it reads and writes.

One file for Python >= 3.9 that needs only numpy and onnxruntime, and those only in the processes that measure. The store and
the link to the controller are the business of agent.py; what is visited when, that of job.py, which starts this file for each visit.
"""

from __future__ import annotations

import ctypes
import gc
import glob
import hashlib
import json
import os
import platform
import re
import resource
import signal
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime

MESSAGE_LIMIT = 2000
LEAST_ITERATIONS = 5
COUNT_WARMUP = 2
# Of perf_event_open, from the kernel's system call tables; PERF_TYPE_HARDWARE's numbers from linux/perf_event.h.
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "armv7l": 364, "ppc64le": 319, "riscv64": 241}
PERF_EVENTS = {"instructions": 1, "cycles": 0}

ARM = 0x41
# Part numbers of Arm's own cores (implementer 0x41), from Arm's technical reference manuals.
ARM_CORES = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78",
    0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710", 0xD49: "Neoverse-N2", 0xD4F: "Neoverse-V2",
}  # fmt: skip


def say(event: str, **fields: object) -> None:
    """Write one line of the protocol."""
    sys.stdout.write(json.dumps(dict(event=event, **fields)) + "\n")
    sys.stdout.flush()


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


def probe() -> dict[str, Any]:
    """Everything about this device that can explain a number."""
    info = read_text("/proc/cpuinfo") or ""
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", info, re.MULTILINE)
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/"
    memory = re.search(r"^MemTotal:\s+(\d+) kB", read_text("/proc/meminfo") or "", re.MULTILINE)
    zones = [read_int(path) for path in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
    heat = [value for value in zones if value is not None]
    return {
        "arch": platform.machine(),
        "cpu_model": cpu_model(info),
        "features": sorted(flags.group(1).split()) if flags else [],
        "cores": len(os.sched_getaffinity(0)),
        "governor": read_text(cpu + "scaling_governor"),
        "frequencies_khz": {
            key: read_int(cpu + "scaling_%s_freq" % name) for key, name in (("min", "min"), ("max", "max"), ("current", "cur"))
        },
        "temperature_celsius": max(heat) / 1000.0 if heat else None,
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "kernel": platform.release(),
        "board": read_text("/proc/device-tree/model"),
        "python": platform.python_version(),
        "executable": sys.executable,
        "emulated": emulation(info),
        "uncountable": uncountable(),
        **libraries(),
    }


def cpu_model(info: str) -> str | None:
    """The processor's name; on Arm from implementer and part, each kind of core once."""
    names = re.findall(r"^(?:model name|Model Name)\s*:\s*(.*)$", info, re.MULTILINE)
    parts = re.findall(r"^CPU implementer\s*:\s*(\w+).*?^CPU part\s*:\s*(\w+)", info, re.MULTILINE | re.DOTALL)
    for implementer, part in parts:
        known = ARM_CORES.get(int(part, 16)) if int(implementer, 16) == ARM else None
        names.append(known or "implementer %s part %s" % (implementer, part))
    return " + ".join(dict.fromkeys(name.strip() for name in names if name.strip())) or platform.processor() or None


def emulation(info: str) -> dict[str, str] | None:
    """Who emulates this processor, with the evidence, or None; the registry may know better."""
    if platform.machine() != "x86_64" and "vendor_id" in info and "flags" in info:
        return {"by": "qemu-user", "evidence": "%s, but /proc/cpuinfo shows an x86 processor" % platform.machine()}
    if re.search(r"^CPU implementer\s*:\s*0x0+$", info, re.MULTILINE):
        return {"by": "qemu", "evidence": "CPU implementer 0x00"}
    if re.search(r"QEMU (?:TCG|Virtual) CPU", info):
        return {"by": "qemu", "evidence": "the processor's name"}
    board = (read_text("/proc/device-tree/compatible") or "").replace("\0", " ")
    if platform.machine() == "aarch64" and "dummy-virt" in board and not os.path.exists("/dev/kvm"):
        return {"by": "qemu", "evidence": "device tree says %s" % board}
    return None


def libraries() -> dict[str, Any]:
    """Versions of numpy and onnxruntime, asked in a child: a wheel can die at import (SIGILL on an old core)."""
    code = (
        "import json, numpy, onnxruntime as o;"
        "print(json.dumps({'numpy': numpy.__version__, 'onnxruntime': {'version': o.__version__, 'providers': o.get_available_providers()}}))"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return {"numpy": None, "onnxruntime": {"error": "importing it took more than 120 s"}}
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    return {"numpy": None, "onnxruntime": {"error": ending(done.returncode, done.stderr)}}


def ending(code: int, log: str) -> str:
    """Words for how a process ended."""
    last = [line for line in log.strip().splitlines() if line.strip()][-1:] or ["no message"]
    if code < 0:
        return "killed by %s; last words: %s" % (signal.Signals(-code).name, last[0][:MESSAGE_LIMIT])
    return last[0][:MESSAGE_LIMIT]


def open_counter(event: str) -> int:
    """Open a kernel counter of this process and the threads that it starts, user space only; perf_event_open(2).

    Returns:
        A file descriptor that gives the count, and how long it was enabled and running, eight bytes each.
    """
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
        raise RuntimeError(
            "the counter ran %.0f %% of the time only: others use the hardware's counters" % (100.0 * running / enabled)
        )
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
        paranoid = read_text("/proc/sys/kernel/perf_event_paranoid")
        if isinstance(error, PermissionError):
            return "not permitted: kernel.perf_event_paranoid is %s; 2 or less is needed" % paranoid
        return "no counter in this processor or virtual machine (%s)" % (getattr(error, "strerror", None) or error)


def worker() -> None:
    """One block or one evaluation, in this fresh process."""
    task = json.load(sys.stdin)
    # Libraries that print, in Python or in C, must not disturb the protocol: their standard output becomes standard error.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if task.get("cpus"):
        os.sched_setaffinity(0, task["cpus"])
    step = "load"
    try:
        import numpy as np
        import onnxruntime

        # Before the session: counters cover only threads that are started later.
        counters = {name: open_counter(name) for name in PERF_EVENTS} if task["counter"] == "perf" else {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        begun = time.perf_counter_ns()
        session = onnxruntime.InferenceSession(task["model"], options, providers=[task["provider"]])
        load_ns = time.perf_counter_ns() - begun
        step = "run"
        with np.load(task["inputs"], allow_pickle=False) as data:
            stacks = [data["arr_%d" % index] for index in range(len(task["names"]))]
        # asarray: an input without axes would come as a number, not as an array.
        feeds = [dict(zip(task["names"], map(np.asarray, sample))) for sample in zip(*stacks)]
        if task["outputs"]:
            result = evaluate(session, feeds[: task["samples"]], task["outputs"])
        elif task["counter"]:
            result = count(session, feeds[0], task, counters)
        else:
            result = block(session, feeds[0], task)
    except Exception as error:  # noqa: BLE001 - whatever a model does to onnxruntime is this case's outcome
        kind = "memory" if isinstance(error, MemoryError) else step
        message = re.sub(r"\s+", " ", "%s: %s" % (type(error).__name__, error)).replace(os.path.dirname(task["model"]) + "/", "")
        result = {"event": "failed", "kind": kind, "message": message[:MESSAGE_LIMIT]}
    else:
        result["load_ns"] = load_ns
    answer.write(json.dumps(result) + "\n")
    answer.close()


def evaluate(session: onnxruntime.InferenceSession, feeds: list[dict[str, Any]], path: str) -> dict[str, Any]:
    """Compute the outputs of every sample; the numeric ones go to an .npz file, sample by sample."""
    import numpy as np

    begun = time.perf_counter()
    outputs = [output for feed in feeds for output in session.run(None, feed)]
    arrays = [output for output in outputs if isinstance(output, np.ndarray) and output.dtype.kind in "fiub"]
    with open(path, "wb") as file:
        np.savez(file, *arrays)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    described = {"name": os.path.basename(path), "size": os.path.getsize(path), "sha256": digest}
    return {"event": "evaluated", "outputs": described, "seconds": round(time.perf_counter() - begun, 3)}


def block(session: onnxruntime.InferenceSession, feed: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """Warm up, then time every iteration by itself; samples are nanoseconds of the monotonic clock."""
    clock, run = time.perf_counter_ns, session.run
    names = [output.name for output in session.get_outputs()]
    begun = clock()
    run(names, feed)
    first_ns = clock() - begun
    warmup = 1
    while warmup < LEAST_ITERATIONS or clock() - begun < task["warmup"] * 1e9:
        run(names, feed)
        warmup += 1
    samples: list[int] = []
    gc.collect()
    gc.disable()
    usage, cpu, opened = resource.getrusage(resource.RUSAGE_SELF), time.process_time_ns(), clock()
    enough, limit = opened + int(task["block"] * 1e9), opened + int(task["block_limit"] * 1e9)
    before = opened
    while len(samples) < LEAST_ITERATIONS or before < enough or (len(samples) < task["iterations"] and before < limit):
        before = clock()
        run(names, feed)
        after = clock()
        samples.append(after - before)
    wall_ns = clock() - opened
    cpu_ns = time.process_time_ns() - cpu
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - usage.ru_nivcsw
    gc.enable()
    return {
        "event": "block", "first_ns": first_ns, "warmup": warmup, "ns": samples, "cpu_ns": cpu_ns, "wall_ns": wall_ns,
        "involuntary_switches": switches, "peak_bytes": peak_bytes(),
    }  # fmt: skip


def peak_bytes() -> int | None:
    """This process's resident high-water mark; ru_maxrss would start at the parent's."""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", read_text("/proc/self/status") or "", re.MULTILINE)
    return int(peak.group(1)) * 1024 if peak else None


def count(
    session: onnxruntime.InferenceSession, feed: dict[str, Any], task: dict[str, Any], counters: dict[str, int]
) -> dict[str, Any]:
    """Count every iteration's instructions, and cycles where the kernel counts.

    On an icount board the clock counts instructions: one is a nanosecond (QEMU, -icount shift=0).
    """
    names = [output.name for output in session.get_outputs()]
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
    gc.enable()
    return {"event": "counted", "counter": task["counter"], "peak_bytes": peak_bytes(), **counted}


def main(words: list[str]) -> int:
    """Run one command."""
    # onnxruntime >= 1.29 sends telemetry from a thread of its own: neither for a lab's network nor good for a measurement.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if words == ["probe"]:
        say("facts", **probe())
    elif words == ["worker"]:
        worker()
    else:
        say("error", kind="usage", message="commands: probe, worker")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
