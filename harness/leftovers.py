"""What would be left behind if this process ended now: jobs on devices, temporary folders; and whether a signal asked it to end."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Set at the first signal. A library may swallow the KeyboardInterrupt, so what begins work on devices looks here.
interrupted = threading.Event()
_lock = threading.Lock()
_noted: dict[object, str] = {}


@contextlib.contextmanager
def noted(sentence: str) -> Iterator[None]:
    """Note something for as long as it is there.

    Args:
        sentence: what it is, and how the user gets rid of it.
    """
    key = object()
    with _lock:
        _noted[key] = sentence
    try:
        yield
    finally:
        with _lock:
            del _noted[key]


def sentences() -> list[str]:
    """What is there now; waits for nobody."""
    return list(_noted.values())
