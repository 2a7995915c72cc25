"""Loads and runs models in a worker process, so that a crash inside of onnxruntime does not end the process that asks.

At its default optimization level, onnxruntime's C++ side ends the whole process (SIGSEGV, SIGABRT) with some models instead of
raising an exception. One worker serves the whole process. It starts when it is first needed, is replaced after a crash, and ends
with :func:`end`, at the latest with this process.
"""

from __future__ import annotations

import atexit
import os
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import onnxruntime as ort

from harness.quantize.reasons import RecipeError
from harness.quantize.verify.session import open_session
from harness.quantize.worker_pool import WorkerDiedError, WorkerPool, is_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Feed = Mapping[str, NDArray[Any]]
    Outputs = list[list[Any]]
    T = TypeVar("T")

_STARTING = Lock()
_POOLS: dict[int, WorkerPool] = {}  # by process: what a fork inherits is its parent's


@dataclass(frozen=True)
class Crash:
    """The end of the worker in the middle of a call.

    Attributes:
        how: the name of the signal, or the exit code: "SIGSEGV", "exit code 3".
    """

    how: str

    @property
    def reason(self) -> str:
        """Say what happened, and what may be done."""
        return (
            f"onnxruntime {ort.__version__} dies ({self.how}) when it loads or runs this file at its default optimization; "
            "leave nodes in float with exclude_nodes, or use another recipe"
        )


class CrashError(RecipeError):
    """onnxruntime would have ended this process; its message is :attr:`Crash.reason`."""


def call(fn: Callable[..., T], /, *args: object) -> T:
    """Have the worker call a function that it can import; arguments and answer are pickled.

    Within a worker of :class:`WorkerPool` this happens in that worker itself, whose end costs one variant only.

    Raises:
        CrashError: if the worker ends in the middle of it.
        Exception: whatever the function raises.
    """
    if is_worker():
        return fn(*args)
    try:
        return _pool().submit(fn, *args).result()
    except WorkerDiedError as exc:
        raise CrashError(Crash(exc.how).reason) from exc


def load_and_run(path: Path, feeds: Sequence[Feed] = ()) -> Outputs:
    """Load a model at the default optimization level, and run it on samples, in the worker.

    Args:
        path: the model's file.
        feeds: the inputs of each run, by name; without any, the model is only loaded.

    Returns:
        For each feed, the outputs in the model's order.

    Raises:
        CrashError: if that ends the worker.
        Exception: of onnxruntime, if it refuses the model or can't run it.
    """
    return call(_load_and_run, path, list(feeds))


def start() -> None:
    """Have the worker start and import onnxruntime, while this process does something else."""
    if not is_worker():
        _pool().submit(_imported)


def end() -> None:
    """End the worker, if there is one; the next call starts another."""
    with _STARTING:
        pool = _POOLS.pop(os.getpid(), None)
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def ended() -> Iterator[None]:
    """See to it that the worker is gone when the block is left, after an interrupt too."""
    try:
        yield
    finally:
        end()


def _pool() -> WorkerPool:
    """Give this process's executor of one worker."""
    with _STARTING:
        if not _POOLS:
            atexit.register(end)
        return _POOLS.setdefault(os.getpid(), WorkerPool(1))


def _load_and_run(path: Path, feeds: Sequence[Feed]) -> Outputs:
    session = open_session(path)
    return [session.run(None, feed) for feed in feeds]


def _imported() -> None:
    """Do nothing: a worker that calls this has imported onnxruntime with this module."""
