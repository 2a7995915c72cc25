"""The processes that a job starts: how they are started and bounded, and what can be read of how they ended."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from typing import Any

MESSAGE_LIMIT = 2000
# What a job starts is kept from the account's own files as it is itself: no user site, no sitecustomize, no PYTHON variables.
ISOLATED = ("-I", "-S") if sys.flags.isolated and sys.flags.no_site else ()


def ending(code: int, log: str) -> str:
    """Words for how a process ended."""
    last = [line for line in log.strip().splitlines() if line.strip()][-1:] or ["no message"]
    if code < 0:
        names = {sign.value: sign.name for sign in signal.Signals}
        return "killed by %s; last words: %s" % (names.get(-code, "signal %d" % -code), last[0][:MESSAGE_LIMIT])
    return last[0][:MESSAGE_LIMIT]


def answer(out: str, key: str | None = None) -> dict[str, Any] | None:
    """What a process said: the last line of its output that is a JSON object, whatever else was printed; None if there is none.

    Args:
        out: its standard output.
        key: the object must have a text under this key.
    """
    for line in reversed(out.splitlines()):
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line)
            if isinstance(said, dict) and (key is None or isinstance(said.get(key), str)):
                return said
    return None


def unread(out: str) -> str:
    """Words for an output without an answer."""
    return "it sent something that is not in its protocol: %r" % out[:100]


def bound(pid: int, memory: int | None) -> None:
    """Limit what a worker may take before it begins, and let the kernel end it, not this job, where memory runs out."""
    with contextlib.suppress(OSError), open("/proc/%d/oom_score_adj" % pid, "w", encoding="ascii") as file:
        file.write("1000")
    if memory:
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (memory, memory))
