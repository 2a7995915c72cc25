"""Reports what this device is: the facts that can explain a measurement (PROTOCOL.md).

A few modules, pushed as one file, for Python >= 3.9 with nothing but its standard library.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import platform
import re
import sys
from typing import TYPE_CHECKING

import counters
import imported
import small_files

if TYPE_CHECKING:
    from protocol_journal import CoreKind, Emulation, Facts

ARM = 0x41
# Part numbers of Arm's own cores (implementer 0x41), from Arm's technical reference manuals.
ARM_CORES = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78",
    0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710", 0xD49: "Neoverse-N2", 0xD4F: "Neoverse-V2",
}  # fmt: skip


def facts(runner: str, kept: str | None = None) -> Facts:
    """Everything about this device that can explain a number; ``kept`` is a file for what need not be asked again."""
    libraries, fault = imported.runtime(runner, kept)
    info = small_files.read_text("/proc/cpuinfo") or ""
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", info, re.MULTILINE)
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/"
    memory = re.search(r"^MemTotal:\s+(\d+) kB", small_files.read_text("/proc/meminfo") or "", re.MULTILINE)
    zones = [small_files.read_int(path) for path in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
    heat = [value for value in zones if value is not None]
    return {
        "event": "facts",
        "arch": platform.machine(),
        "cpu_model": cpu_model(info),
        "features": sorted(flags.group(1).split()) if flags else [],
        "cores": len(os.sched_getaffinity(0)),
        "cpus": usable_cores(),
        "governor": small_files.read_text(cpu + "scaling_governor"),
        "frequencies_khz": {
            "min": small_files.read_int(cpu + "scaling_min_freq"),
            "max": small_files.read_int(cpu + "scaling_max_freq"),
            "current": small_files.read_int(cpu + "scaling_cur_freq"),
        },
        "temperature_celsius": max(heat) / 1000.0 if heat else None,
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "kernel": platform.release(),
        "board": small_files.read_text("/proc/device-tree/model"),
        "python": platform.python_version(),
        "executable": sys.executable,
        "emulated": emulation(info),
        "core_kinds": core_kinds(),
        "numpy": libraries.get("numpy"),
        "onnxruntime": libraries.get("onnxruntime", {"error": fault}),
        "uncountable": counters.uncountable(),
    }


def cpu_model(info: str) -> str | None:
    """The processor's name; on Arm from implementer and part, each kind of core once."""
    names = re.findall(r"^(?:model name|Model Name)\s*:\s*(.*)$", info, re.MULTILINE)
    parts = re.findall(r"^CPU implementer\s*:\s*(\w+).*?^CPU part\s*:\s*(\w+)", info, re.MULTILINE | re.DOTALL)
    for implementer, part in parts:
        known = ARM_CORES.get(int(part, 16)) if int(implementer, 16) == ARM else None
        names.append(known or "implementer %s part %s" % (implementer, part))
    return " + ".join(dict.fromkeys(name.strip() for name in names if name.strip())) or platform.processor() or None


def emulation(info: str) -> Emulation | None:
    """Who emulates this processor, with the evidence, or None; the registry may know better."""
    if platform.machine() != "x86_64" and "vendor_id" in info and "flags" in info:
        return {"by": "qemu-user", "evidence": "%s, but /proc/cpuinfo shows an x86 processor" % platform.machine()}
    if re.search(r"^CPU implementer\s*:\s*0x0+$", info, re.MULTILINE):
        return {"by": "qemu", "evidence": "CPU implementer 0x00"}
    if re.search(r"QEMU (?:TCG|Virtual) CPU", info):
        return {"by": "qemu", "evidence": "the processor's name"}
    board = (small_files.read_text("/proc/device-tree/compatible") or "").replace("\0", " ")
    if platform.machine() == "aarch64" and "dummy-virt" in board and not os.path.exists("/dev/kvm"):
        return {"by": "qemu", "evidence": "device tree says %s" % board}
    return None


def core_kinds() -> list[CoreKind]:
    """The kinds of cores, as in a big.LITTLE processor, with the cores of each; a processor of one kind has one."""
    kinds: dict[tuple[int | None, int | None], list[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        folder = "/sys/devices/system/cpu/cpu%d/" % cpu
        kind = (small_files.read_int(folder + "cpu_capacity"), small_files.read_int(folder + "cpufreq/cpuinfo_max_freq"))
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


def main(words: list[str]) -> int:
    """Probe for one runner."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.path += filter(None, os.environ.get("QUANT_HARNESS_PATH", "").split(os.pathsep))
    if len(words) not in {1, 2}:
        sys.stdout.write(json.dumps({"event": "error", "kind": "usage", "message": "usage: prober.py RUNNER [KEPT]"}) + "\n")
        return 2
    sys.stdout.write(json.dumps(facts(*words)) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
