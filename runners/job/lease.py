"""The lease of a device: one job at a time on the whole machine, those of one store in the order they came.

Two locks make it: the machine's (machine_lease.py), which holds across accounts and stores, and the store's, which versions before
protocol 4 know alone. The kernel frees both when the job and its workers have ended, however they did.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import time
from typing import IO, TYPE_CHECKING, Any, Callable

import machine_lease

if TYPE_CHECKING:
    import socket

    from protocol import Who

HOLDER_LIMIT = 2000
# A program that looks whether the lease is free holds it for a moment; nobody is refused because of that.
LEAST_SECONDS = 1.0
# Random, so that no account always comes first.
POLL_SECONDS = (0.05, 0.15)
# The holder is asked who it is only so often, because it is measuring.
ASK_SECONDS = 2.0
UNKNOWN = json.dumps({"answers": False})


class Lease:
    """The right to measure on this device.

    Args:
        store: the folder of the store.
        job: who asks.
        protocol: the version that the job speaks.

    Attributes:
        lacking: why the lease holds for this store alone; None if it holds for the machine.
    """

    def __init__(self, store: str, job: str, protocol: int) -> None:
        self.file: IO[str] = open(os.path.join(store, "lease"), "a+", encoding="utf-8")
        self.socket: socket.socket | None = None
        self.lacking: str | None = None
        self.job, self.protocol = job, protocol
        self.queue = os.path.join(store, "queue")
        os.makedirs(self.queue, mode=0o700, exist_ok=True)

    def take(
        self, who: Who, wait: float, stopping: Callable[[], bool], tell: Callable[[str], None], sibling_wait: float = 0
    ) -> str | None:
        """Take it, at the latest after ``wait`` seconds; after ``sibling_wait`` where a job of the same controller holds it.

        Returns:
            Who holds it, if it could not be had.
        """
        begun, told = time.monotonic(), None
        deadline = begun + max(wait, LEAST_SECONDS)
        with self.ticket() as mine:
            try:
                holder, asked = "", 0.0
                while not (self.is_first(mine.name) and self.locked()):
                    now = time.monotonic()
                    if now > min(deadline, asked + ASK_SECONDS) or not holder:
                        holder, asked = self.holder(), now
                    if is_sibling(holder, who):
                        deadline = max(deadline, min(begun + sibling_wait, now + ASK_SECONDS + LEAST_SECONDS))
                    if stopping() or now > deadline:
                        return holder or UNKNOWN
                    if deadline - begun > LEAST_SECONDS and holder not in ("", told):
                        tell(holder)
                        told = holder
                    time.sleep(random.uniform(*POLL_SECONDS))  # noqa: S311 - no secret
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(mine.name)
        said = json.dumps(dict(who, job=self.job, since=time.time(), protocol=self.protocol))
        self.file.truncate(0)
        self.file.write(said)
        self.file.flush()
        if self.socket is not None:
            machine_lease.answer(self.socket, said)
        return None

    def descriptors(self) -> list[int]:
        """What a worker inherits, so that the lease is held for as long as it lives."""
        return [self.file.fileno()] + ([] if self.socket is None else [self.socket.fileno()])

    def holder(self) -> str:
        """Who holds it, as JSON, or which job is the first of those that wait; empty if that is this one."""
        found = machine_lease.holder()
        if found is not None:
            return json.dumps(found, ensure_ascii=False)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(self.file, fcntl.LOCK_UN)
            first = min(os.listdir(self.queue), default="").partition("-")[2]
            return json.dumps({"job": first}) if first not in ("", self.job) else ""
        self.file.seek(0)
        return self.file.read(HOLDER_LIMIT)

    def ticket(self) -> IO[bytes]:
        """Draw the next number, held for as long as the file is open. No clock gives it: one may be set back."""
        with self.queueing():
            drawn = [int(found[1]) for found in map(re.compile(r"(\d{1,20})-").match, os.listdir(self.queue)) if found]
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
        """Take both locks, if both are free."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            self.socket = machine_lease.take()
        except OSError as error:
            self.lacking = "the system does not allow this account to take the lease of the machine: %s" % error.strerror
            return True
        if self.socket is None:
            fcntl.flock(self.file, fcntl.LOCK_UN)
        return self.socket is not None

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


def is_sibling(holder: str, who: Who) -> bool:
    """Whether the holder was started by the same controller, which reaches this machine by two entries of its devices."""
    try:
        return bool(json.loads(holder)["controller"] == who["controller"])
    except (ValueError, KeyError, TypeError):
        return False
