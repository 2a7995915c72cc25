"""Limits what paramiko waits for without a limit: it cuts the connection from outside."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL_SECONDS = 0.5


class StalledError(TimeoutError):
    """The connection was cut because it made no progress.

    Attributes:
        seconds: how long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no progress within {seconds:g} s")
        self.seconds = seconds


@dataclass(eq=False)
class _Wait:
    """What is waited for: until when, unless more is heard meanwhile."""

    seconds: float
    heard: Callable[[], int]
    since: float
    before: int
    cut: bool = False


class Watch:
    """Cuts a connection that makes no progress; neither a channel's timeout nor keepalives detect that.

    Paramiko waits without a limit for the answer to a request (exec) and for a write to be taken, which every message may need.

    Args:
        cut: ends the connection from outside; None watches nothing.
        seconds: how long a write may take without a word from the device.
    """

    def __init__(self, cut: Callable[[], None] | None, seconds: float) -> None:
        self._cut, self._seconds = cut, seconds
        self._waits: set[_Wait] = set()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def over(self, heard: Callable[[], int]) -> contextlib.AbstractContextManager[None]:
        """Limit a write, which may take longer while the device sends something; ``heard`` counts that.

        Raises:
            StalledError: if it made no headway.
        """
        return self._watched(heard, self._seconds)

    def limit(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Limit the time of the block.

        Raises:
            StalledError: if it took longer.
        """
        return self._watched(lambda: 0, seconds)

    @contextlib.contextmanager
    def _watched(self, heard: Callable[[], int], seconds: float) -> Iterator[None]:
        wait = _Wait(seconds, heard, time.monotonic(), heard())
        with self._lock:
            self._waits.add(wait)
            if self._thread is None and self._cut is not None:
                self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
                self._thread.start()
        try:
            yield
        except (EOFError, OSError, paramiko.SSHException) as exc:
            if wait.cut:
                raise StalledError(seconds) from exc
            raise
        finally:
            with self._lock:
                self._waits.discard(wait)

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        """Check regularly."""
        while not self._ended.wait(POLL_SECONDS):
            now = time.monotonic()
            with self._lock:
                for wait in self._waits:
                    if (heard := wait.heard()) != wait.before:
                        wait.since, wait.before = now, heard
                    elif now - wait.since > wait.seconds:
                        wait.cut = True
                late = any(wait.cut for wait in self._waits)
            if late and self._cut is not None:
                self._cut()
                return
