"""This process: what it has used, and the cores that it runs on."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import time

import small_files


def usage() -> tuple[int, int, int, int, int]:
    """CPU nanoseconds, involuntary context switches, minor and major page faults so far, and the clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.process_time_ns(), used.ru_nivcsw, used.ru_minflt, used.ru_majflt, time.perf_counter_ns()


def peak_bytes() -> int | None:
    """This process's resident high-water mark; ru_maxrss would start at the parent's."""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", small_files.read_text("/proc/self/status") or "", re.MULTILINE)
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
