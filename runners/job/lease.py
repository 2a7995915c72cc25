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
        deadline, told = time.monotonic() + max(wait, LEAST_SECONDS), None
        with self.ticket() as mine:
            try:
                while not (self.is_first(mine.name) and self.locked()):
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
                    os.unlink(mine.name)
        self.file.truncate(0)
        self.file.write(json.dumps(dict(who, job=self.job, since=time.time())))
        self.file.flush()
        return None

    def ticket(self) -> IO[bytes]:
        """Draw the next number, held for as long as the file is open. No clock gives it: one may be set back."""
        with self.queueing():
            drawn = [int(name.partition("-")[0]) for name in os.listdir(self.queue)]
            file = open(os.path.join(self.queue, "%020d-%s" % (max(drawn, default=0) + 1, self.job)), "wb")
            fcntl.flock(file, fcntl.LOCK_EX)
        return file

    @contextlib.contextmanager
    def queueing(self) -> Any:  # noqa: ANN401 - an iterator
        """Look at the queue while nobody else changes it."""
        folder = os.open(self.queue, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def locked(self) -> bool:
        """Take the lock, if it is free."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_first(self, ticket: str) -> bool:
        """Whether nobody who came before still waits; what the dead left is cleared away."""
        with self.queueing():
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
