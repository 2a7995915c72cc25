"""Says what this device is, as facts that can explain a number; PROTOCOL.md tells them.

One file for Python >= 3.9 with nothing but its standard library. What its onnxruntime is, the runner is asked, once for each installation and
start of the device: importing it takes most of a probe's time, seconds on a small board.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import json
import os
import platform
import re
import runpy
import signal
import subprocess
import sys
import zlib
from typing import Any

MESSAGE_LIMIT = 2000
# What it starts is kept from the account's own files as it is itself.
ISOLATED = ("-I", "-S") if sys.flags.isolated and sys.flags.no_site else ()

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


def probe(runner: str, checks: str, kept: str | None = None) -> dict[str, Any]:
    """Everything about this device that can explain a number; ``kept`` is a file for what need not be asked again."""
    libraries, fault = runtime(runner, kept)
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
        "cpus": usable_cores(),
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
        "core_kinds": core_kinds(),
        "numpy": libraries.get("numpy"),
        "onnxruntime": libraries.get("onnxruntime", {"error": fault}),
        "uncountable": runpy.run_path(checks)["uncountable"](),
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


def core_kinds() -> list[dict[str, Any]]:
    """The kinds of cores, as in a big.LITTLE processor, with the cores of each; a processor of one kind has one."""
    kinds: dict[tuple[int | None, int | None], list[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        folder = "/sys/devices/system/cpu/cpu%d/" % cpu
        kind = (read_int(folder + "cpu_capacity"), read_int(folder + "cpufreq/cpuinfo_max_freq"))
        kinds.setdefault(kind, []).append(cpu)
    return [{"capacity": capacity, "max_khz": khz, "cpus": cpus} for (capacity, khz), cpus in kinds.items()]


def usable_cores() -> list[int]:
    """The numbers of the cores that a process of this account can be pinned to: those that are online and in its cpuset, whatever it is pinned to now."""
    now = os.sched_getaffinity(0)
    numbers = [int(path.rpartition("cpu")[2]) for path in glob.glob("/sys/devices/system/cpu/cpu[0-9]*")]
    try:
        os.sched_setaffinity(0, numbers or now)
        return sorted(os.sched_getaffinity(0))
    except OSError:  # an emulator that knows no affinities
        return sorted(now)
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, now)


def runtime(runner: str, kept: str | None) -> tuple[dict[str, Any], str]:
    """What the runner says of numpy and onnxruntime: its answer, or how it ended; an answer is kept until what it depends on changes."""
    key = installation(runner)
    if kept and key and os.path.isfile(kept):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError), open(kept, encoding="utf-8") as file:
            known = json.loads(file.read(1 << 20))
            if known["of"] == key and known["sum"] == checksum(known["answer"]):
                return dict(known["answer"]), ""
    answer, fault = ask(runner, "runtime")
    if kept and key and answer:
        with contextlib.suppress(OSError):  # a full disk, a store that can't be written: then it is asked again
            with contextlib.suppress(FileNotFoundError):
                os.unlink(kept + ".new")
            with open(os.open(kept + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump({"of": key, "answer": answer, "sum": checksum(answer)}, file)
            os.replace(kept + ".new", kept)
    return answer, fault


def checksum(answer: dict[str, Any]) -> int:
    """Of an answer that is kept, against damage."""
    return zlib.crc32(json.dumps(answer, sort_keys=True).encode())


def installation(runner: str) -> list[Any]:
    """All that decides how importing numpy and onnxruntime ends; an empty list where that can't be said.

    A package that is installed anew has other files, in place of the old ones or elsewhere; an operating system is updated, and a processor changed,
    with a new start sooner or later. A library that the wheel needs and that is removed meanwhile, its workers will miss.
    """
    started = read_text("/proc/sys/kernel/random/boot_id")
    variables = [os.environ.get(name) for name in ("PYTHONPATH", "QUANT_HARNESS_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD")]
    found: list[Any] = [runner, started, sys.executable, sys.version, variables]
    for name in ("numpy", "onnxruntime"):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if started is None or spec is None or not spec.origin:
            return []
        folder = os.path.dirname(spec.origin)
        modules = sorted(path for name in ("*.py", "capi/*") for path in glob.glob(os.path.join(folder, name)))
        try:
            states = [(path, os.stat(path)) for path in (folder, spec.origin, *modules)]
        except OSError:
            return []  # in an archive
        found += [[path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns] for path, state in states]
    return found


def ask(*words: str) -> tuple[dict[str, Any], str]:
    """One of the runner's programs in a child, for a wheel can die at import (SIGILL on an old core): its answer, or how it ended."""
    try:
        done = subprocess.run(
            [sys.executable, *ISOLATED, *words], capture_output=True, text=True, errors="replace", timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return {}, "importing it took more than 120 s"
    if done.returncode != 0:
        return {}, ending(done.returncode, done.stderr)
    # A library may print something too: an answer is a JSON object.
    for line in reversed(done.stdout.splitlines()):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found, ""
    return {}, "it sent something that is not in its protocol: %r" % done.stdout[:100]


def ending(code: int, log: str) -> str:
    """Words for how a process ended."""
    last = [line for line in log.strip().splitlines() if line.strip()][-1:] or ["no message"]
    if code < 0:
        return "killed by %s; last words: %s" % (signal.Signals(-code).name, last[0][:MESSAGE_LIMIT])
    return last[0][:MESSAGE_LIMIT]


def main(words: list[str]) -> int:
    """Probe for one runner."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.path += filter(None, os.environ.get("QUANT_HARNESS_PATH", "").split(os.pathsep))
    if len(words) not in {2, 3}:
        say("error", kind="usage", message="usage: prober.py RUNNER CHECKS [KEPT]")
        return 2
    say("facts", **probe(*words))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
