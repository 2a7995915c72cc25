"""A process that is identified by its number and start time, because numbers are reused."""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Fields of /proc/PID/stat after the command's name in brackets: the state is the first, the start time the 20th.
STATE, START = 0, 19
ENDED = {"Z", "X"}
REAP_SECONDS = 1.0


@dataclass(frozen=True)
class Process:
    """A process of this boot.

    Attributes:
        started: the boot's identity and the start in clock ticks since then, as one word.
    """

    pid: int
    started: str

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; another process with its number does not count."""
        return start_of(self.pid) == self.started

    def stop(self, patience: float) -> bool:
        """End it, first with SIGTERM, after ``patience`` seconds with SIGKILL.

        Returns:
            Whether it has ended.
        """
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # The handle is of whoever has the number now; if that is our process, it stays ours.
            if not self.is_alive:
                return True
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], patience)[0]:
                    self._vanish()
                    return True
        except ProcessLookupError:
            return True
        finally:
            os.close(handle)
        return not self.is_alive

    def _vanish(self) -> None:
        """Wait a little until its parent has taken note of its end, so that ``ps`` does not show it any more."""
        deadline = time.monotonic() + REAP_SECONDS
        while (PROC / str(self.pid)).exists() and time.monotonic() < deadline:
            time.sleep(0.01)


def start_of(pid: int) -> str | None:
    """Tell when a process started, or None if there is none, or only its remains."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        boot = (PROC / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[STATE] in ENDED else f"{boot}/{fields[START]}"


def of_pid_file(path: Path) -> Process | None:
    """Find the process that wrote its number to a file and was started with that file's name; None if it is gone."""
    try:
        pid = int(path.read_text(encoding="ascii"))
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    started = start_of(pid)
    return Process(pid, started) if started is not None and os.fsencode(path) in words else None
