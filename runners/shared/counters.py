"""The kernel's counters of instructions and cycles, in user space only."""

from __future__ import annotations

import os
import platform
import struct

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
