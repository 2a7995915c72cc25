"""The lease of a device: one job at a time, those that wait in the order they came.

The kernel frees it when the job and its workers have ended, however they did.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import IO, Any, Callable

HOLDER_LIMIT = 2000
# Whoever looks whether it is free holds it for a moment: nobody is refused for that.
LEAST_SECONDS = 1.0
POLL_SECONDS = 0.1


class Lease:
    """The right to measure on this device.

    Args:
        store: the folder of the store.
        job: who asks.
    """

    def __init__(self, store: str, job: str) -> None:
        self.file: IO[str] = open(os.path.join(store, "lease"), "a+", encoding="utf-8")
        self.job = job
        self.queue = os.path.join(store, "queue")
        os.makedirs(self.queue, mode=0o700, exist_ok=True)

    def take(self, who: dict[str, Any], wait: float, stopping: Callable[[], bool], tell: Callable[[str], None]) -> str | None:
        """Take it, at the latest after so many seconds.

        Returns:
            Who holds it, if it could not be had.
        """
        ticket = os.path.join(self.queue, "%020d-%s" % (time.time_ns(), self.job))
        deadline, told = time.monotonic() + max(wait, LEAST_SECONDS), None
        with open(ticket, "wb") as mine:
            fcntl.flock(mine, fcntl.LOCK_EX)
            try:
                while not (self.is_first(ticket) and self.locked()):
                    self.file.seek(0)
                    holder = self.file.read(HOLDER_LIMIT)
                    if stopping() or time.monotonic() > deadline:
                        return holder
                    if wait > LEAST_SECONDS and holder != told:
                        tell(holder)
                        told = holder
                    time.sleep(POLL_SECONDS)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(ticket)
        self.file.truncate(0)
        self.file.write(json.dumps(dict(who, job=self.job, since=time.time())))
        self.file.flush()
        return None

    def locked(self) -> bool:
        """Take the lock, if it is free."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_first(self, ticket: str) -> bool:
        """Whether nobody who came before still waits; what the dead left is cleared away."""
        for name in sorted(os.listdir(self.queue)):
            path = os.path.join(self.queue, name)
            if path >= ticket:
                break
            with contextlib.suppress(OSError), open(path, "rb") as other:
                fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
                os.unlink(path)
                continue
            if os.path.exists(path):
                return False
        return True
