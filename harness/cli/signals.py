"""Signals: the first one interrupts the command, which stops what it began; a second one ends the process within a second."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness import leftovers
from harness.cli import streams
from harness.errors import Exit

if TYPE_CHECKING:
    from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A server that aborts a build signals every process of the step, and the step's shell passes on what it got: these count as one signal.
TOGETHER_SECONDS = 0.3
# What the first signal began may still end by itself for so long.
GRACE_SECONDS = 0.5
# Until an interrupt is raised again that was lost in a callback: long enough for the callback to return.
AGAIN_SECONDS = 0.05
SHOW_CURSOR = b"\x1b[?25h"


def install() -> Seen:
    """Handle SIGINT, SIGTERM and SIGHUP; signals that nohup or a shell's '&' ignores stay ignored.

    Returns:
        Whether one of them has come.
    """
    wanted = [number for number in NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    seen = Seen()
    for number in wanted:
        signal.signal(number, seen.handle)
    signal.signal(signal.SIGALRM, seen.handle_again)
    sys.unraisablehook = seen.handle_lost
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    # A handler in Python waits until the main thread is back from whatever it calls; this thread does not.
    threading.Thread(target=_watch, args=(ours, set(wanted)), name="signals", daemon=True).start()
    return seen


class Seen:
    """Raises KeyboardInterrupt at the first signal, and again if it was lost."""

    def __init__(self) -> None:
        self._closed = False

    @property
    def interrupted(self) -> bool:
        """Whether the first signal has come."""
        return leftovers.interrupted.is_set()

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Interrupt the main thread, once."""
        if not self.interrupted:
            leftovers.interrupted.set()
            raise KeyboardInterrupt

    def handle_again(self, _number: int, _frame: FrameType | None) -> None:
        """Interrupt the main thread after the first interrupt was lost."""
        if not self._closed:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Raise nothing again: the command has ended. Without a handler, as when the interpreter ends, the timer would end the process."""
        self._closed = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def handle_lost(self, lost: sys.UnraisableHookArgs) -> None:
        """Raise an interrupt again that Python dropped: in a finalizer, or in a callback of a library written in C, it can't be raised."""
        if self.interrupted and isinstance(lost.exc_value, KeyboardInterrupt):
            # A timer, because this function itself can't raise either.
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            sys.__unraisablehook__(lost)


def _watch(heard: socket.socket, wanted: set[signal.Signals]) -> None:
    """End the process after a second signal."""
    first = math.inf
    while number := heard.recv(1):
        now = time.monotonic()
        if number[0] not in wanted:
            continue
        if now > first + TOGETHER_SECONDS:
            break
        first = min(first, now)
    time.sleep(GRACE_SECONDS)
    end()


def leave() -> NoReturn:
    """End this process and its children at once, after an interrupted command."""
    _end_children()
    # What libraries remove at the end, such as temporary folders, and nothing that waits for a thread.
    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter itself calls
    streams.flush()
    os._exit(Exit.INTERRUPTED)


def _end_children() -> None:
    for pid in children():
        with contextlib.suppress(OSError):
            # What was started as the leader of a group takes the group with it.
            os.killpg(pid, signal.SIGKILL) if os.getpgid(pid) == pid else os.kill(pid, signal.SIGKILL)


def end() -> NoReturn:
    """End this process and its children at once, and say what is left behind."""
    _end_children()
    if os.isatty(2):
        with contextlib.suppress(OSError):
            os.write(2, SHOW_CURSOR)
    found = leftovers.sentences()
    left = "nothing is left behind" if not found else "left behind:\n" + "\n".join(found)
    # Another thread may hold the stream's lock for ever.
    writer = threading.Thread(target=streams.say, args=(f"ended at once by a second signal; {left}",), daemon=True)
    writer.start()
    writer.join(timeout=GRACE_SECONDS / 2)
    os._exit(Exit.INTERRUPTED)


def children() -> list[int]:
    """The processes that this one started and that still run."""
    found = []
    for entry in Path("/proc").iterdir() if sys.platform == "linux" else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # After the name, which may hold anything: the state and the parent.
                if int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(entry.name))
    return found
