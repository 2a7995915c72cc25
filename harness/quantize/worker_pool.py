"""Worker processes that make variants: an executor in which a worker that dies fails only the call that it was working on."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from signal import Signals
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from harness.quantize.reasons import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    T = TypeVar("T")

# What a worker runs: it finds modules where its parent does, and does not import the parent's main module.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from harness.quantize.worker_pool import serve; serve()"

GRACE = 5  # seconds for a worker that has closed its pipes to end

# What onnxruntime's C++ side ends a process with, where it would better have raised an exception.
CRASHES = frozenset({Signals.SIGSEGV, Signals.SIGABRT, Signals.SIGBUS, Signals.SIGFPE, Signals.SIGILL})
_serving = False


class WorkerDiedError(RecipeError):
    """A worker process ended in the middle of a call.

    Attributes:
        how: the name of the signal that ended it, or "exit code 3".
    """

    def __init__(self, message: str, how: str) -> None:
        """Keep how it ended."""
        self.how = how
        super().__init__(message)


def is_worker() -> bool:
    """Whether this process is a worker."""
    return _serving


class WorkerPool(Executor):
    """Runs calls in worker processes, a fixed number at a time.

    ``ProcessPoolExecutor`` fails all calls when one of its processes dies, imports the caller's main module in each of them,
    and lets Ctrl-C reach them, so that their tracebacks mix. Here a worker that dies fails its own call and is replaced.
    Workers do not see Ctrl-C. They end with :meth:`shutdown`, or when their parent ends, which closes their standard input.

    Functions, arguments and results are pickled.
    """

    def __init__(self, count: int) -> None:
        """Start no worker yet.

        Args:
            count: how many workers there may be at once.
        """
        self._threads = ThreadPoolExecutor(count)
        self._own = threading.local()
        self._all: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401 - as Executor has it
        """Call a function in a worker, which must be able to import it.

        The future raises :class:`WorkerDiedError` if the worker ends before it answers.
        """
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as Executor has it
        """End the workers.

        Args:
            wait: let the calls that run end first; if false, or if ``cancel_futures`` is set, their workers are killed.
            cancel_futures: cancel the calls that have not begun.
        """
        if wait and not cancel_futures:
            self._threads.shutdown()
        with self._lock:
            self._ended = True
            workers = list(self._all)
        for worker in workers:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in workers:
            _bury(worker)

    def _call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """Send a call to this thread's worker, and wait for the answer."""
        message = pickle.dumps((fn, args, kwargs))
        worker = self._worker()
        assert worker.stdin is not None  # noqa: S101
        assert worker.stdout is not None  # noqa: S101 - both are pipes
        try:
            worker.stdin.write(message)
            worker.stdin.flush()
            done, answer = pickle.load(worker.stdout)  # noqa: S301 - from our own process
        except (OSError, EOFError, pickle.UnpicklingError) as exc:
            self._own.worker = None
            with self._lock:
                self._all.discard(worker)
            with suppress(subprocess.TimeoutExpired):
                worker.wait(GRACE)
            code = _bury(worker)
            raise WorkerDiedError(_told(code), _how(code)) from exc
        if done:
            found: T = answer
            return found
        raise answer

    def _worker(self) -> subprocess.Popen[bytes]:
        """This thread's worker, started if there is none."""
        worker: subprocess.Popen[bytes] | None = getattr(self._own, "worker", None)
        if worker is None:
            with self._lock:
                if self._ended:
                    message = "no process was started to make it, because the build is ending"
                    raise WorkerDiedError(message, "not started")
                worker = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, *sys.path],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    process_group=0,
                )
                self._all.add(worker)
            self._own.worker = worker
        return worker


def serve() -> None:
    """Answer the calls on standard input until it ends; this is what a worker does."""
    global _serving  # noqa: PLW0603 - a fact about the process
    _serving = True
    calls = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    # What libraries print must not come between.
    os.dup2(2, 1)
    while True:
        try:
            fn, args, kwargs = pickle.load(calls)  # noqa: S301 - from our own parent
        except EOFError:
            return
        try:
            answer = (True, fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 - the caller's to judge
            answer = (False, exc)
        if not _say(answers, answer):
            return


def _say(answers: BinaryIO, answer: tuple[bool, object]) -> bool:
    """Write an answer; returns whether the parent still reads."""
    try:
        message = pickle.dumps(answer)
        pickle.loads(message)  # noqa: S301 - some exceptions of libraries can be written and not read
    except Exception:  # noqa: BLE001 - pickling raises anything
        message = pickle.dumps((False, RuntimeError(repr(answer[1]))))
    try:
        answers.write(message)
        answers.flush()
    except OSError:
        return False
    return True


def _bury(worker: subprocess.Popen[bytes]) -> int:
    """See a worker to its end, and return its code."""
    worker.kill()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    return worker.wait()


def _how(code: int) -> str:
    """How a process ended, in a word."""
    return f"exit code {code}" if code >= 0 else Signals(-code).name


def _told(code: int) -> str:
    """How a process ended, and what the user can do about it."""
    if code >= 0:
        return f"the process that made it ended with code {code}"
    hint = "; perhaps the machine ran out of memory" if code == -Signals.SIGKILL else ""
    if -code in CRASHES:
        hint = " in the middle of onnxruntime's work; leave nodes in float with exclude_nodes, or use another recipe"
    return f"the process that made it was ended by {Signals(-code).name}{hint}"
