"""What disturbs a measurement, and which pairs of blocks do not count because of it."""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING

import small_files

if TYPE_CHECKING:
    from protocol_runner import BlockPair
    from protocol_runner import Conditions as Reading

# A pair of blocks is disturbed when others had more than this share of the time, or the clock rate moved by more than that.
TAKEN, MOVED = 0.1, 0.05
CPU = "/sys/devices/system/cpu/"


class Conditions:
    """What disturbs a measurement, read before and after it; what this device does not report is left out."""

    def __init__(self) -> None:
        policies = {os.path.realpath(CPU + "cpu%d/cpufreq" % cpu) for cpu in os.sched_getaffinity(0)}
        self.frequencies = [path + "/scaling_cur_freq" for path in sorted(policies)[:4]]
        self.heats = glob.glob("/sys/class/thermal/thermal_zone*/temp")[:8]
        # x86 counts throttling; elsewhere the kernel's thermal framework holds the clock down through cooling devices.
        self.throttles = glob.glob(CPU + "cpu*/thermal_throttle/core_throttle_count")
        self.throttles += [
            os.path.dirname(path) + "/cur_state"
            for path in glob.glob("/sys/class/thermal/cooling_device*/type")
            if "cpufreq" in (small_files.read_text(path) or "")
        ]
        self.raspberry = "/sys/devices/platform/soc/soc:firmware/get_throttled"

    def read(self) -> Reading:
        """One reading: kHz, °C, throttling as counted or flagged, ticks stolen by the hypervisor, interrupts, the load average."""
        found: Reading = {}
        khz = [value for value in map(small_files.read_int, self.frequencies) if value is not None]
        heat = [value for value in map(small_files.read_int, self.heats) if value is not None]
        states = [value for value in map(small_files.read_int, self.throttles) if value is not None]
        flags = small_files.read_text(self.raspberry)
        counts = small_files.read_text("/proc/stat") or ""
        stat = re.match(r"cpu +(?:\d+ +){7}(\d+)", counts)
        interrupts = re.search(r"^intr (\d+)", counts, re.MULTILINE)
        load = (small_files.read_text("/proc/loadavg") or "").split()
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


def disturbances(pair: BlockPair, threads: int) -> list[str]:
    """Why a pair of blocks does not count; empty if it does. PROTOCOL.md has the rules."""
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
