"""Child processes that make variants: an executor in which a child that dies takes nothing with it but its own call."""

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

# What a child runs: it finds modules where its parent does, and imports nothing of the parent's main module.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from harness.quantize.worker_pool import serve; serve()"

GRACE = 5  # seconds for a child that has closed its pipes to be gone


# What onnxruntime's C++ side ends a process with, where it would better have raised an exception.
CRASHES = frozenset({Signals.SIGSEGV, Signals.SIGABRT, Signals.SIGBUS, Signals.SIGFPE, Signals.SIGILL})
_serving = False


class DeadChildError(RecipeError):
    """A child process ended in the middle of a call.

    Attributes:
        how: the name of the signal that ended it, or "exit code 3".
    """

    def __init__(self, message: str, how: str) -> None:
        """Tell how it ended."""
        self.how = how
        super().__init__(message)


def is_child() -> bool:
    """Say whether this process answers the calls of another."""
    return _serving


class Children(Executor):
    """Runs calls in child processes, so many at a time.

    ``ProcessPoolExecutor`` gives up all calls when one of its processes dies, reads the caller's main module in each of them,
    and lets Ctrl-C reach them, whose tracebacks then mix. Here a child that dies fails its call and is replaced; none sees
    Ctrl-C, and all end with :meth:`shutdown`, at the latest when their parent's end closes their input.

    What is called, and what it is given and returns, is pickled.
    """

    def __init__(self, count: int) -> None:
        """Start none yet.

        Args:
            count: of children at most.
        """
        self._threads = ThreadPoolExecutor(count)
        self._own = threading.local()
        self._all: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401 - as Executor has it
        """Have a child call a function that it can import.

        The future raises :class:`DeadChildError` if the child ends before it answers.
        """
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as Executor has it
        """End the children.

        Args:
            wait: for the calls that run; else, or if they are to be cancelled, they are killed.
            cancel_futures: do not begin those that wait.
        """
        if wait and not cancel_futures:
            self._threads.shutdown()
        with self._lock:
            self._ended = True
            children = list(self._all)
        for child in children:
            child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in children:
            _bury(child)

    def _call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """Send a call to this thread's child, and wait for the answer."""
        message = pickle.dumps((fn, args, kwargs))
        child = self._child()
        assert child.stdin is not None  # noqa: S101
        assert child.stdout is not None  # noqa: S101 - both are pipes
        try:
            child.stdin.write(message)
            child.stdin.flush()
            done, answer = pickle.load(child.stdout)  # noqa: S301 - from our own process
        except (OSError, EOFError, pickle.UnpicklingError) as exc:
            self._own.child = None
            with self._lock:
                self._all.discard(child)
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
            code = _bury(child)
            raise DeadChildError(_told(code), _how(code)) from exc
        if done:
            found: T = answer
            return found
        raise answer

    def _child(self) -> subprocess.Popen[bytes]:
        """This thread's child; started when there is none."""
        child: subprocess.Popen[bytes] | None = getattr(self._own, "child", None)
        if child is None:
            with self._lock:
                if self._ended:
                    message = "the process that should have made it was not started any more"
                    raise DeadChildError(message, "not started")
                child = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, *sys.path],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    process_group=0,
                )
                self._all.add(child)
            self._own.child = child
        return child


def serve() -> None:
    """Answer the calls on standard input until it ends: the child's side."""
    global _serving  # noqa: PLW0603 - a process is a child or not
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
    """Write an answer, and say whether anybody is there to read it."""
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


def _bury(child: subprocess.Popen[bytes]) -> int:
    """See a child to its end, and return its code."""
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    return child.wait()


def _how(code: int) -> str:
    """Name how a process ended."""
    return f"exit code {code}" if code >= 0 else Signals(-code).name


def _told(code: int) -> str:
    """Say how a process ended, and what may be done."""
    if code >= 0:
        return f"the process that made it ended with code {code}"
    hint = "; perhaps the machine ran out of memory" if code == -Signals.SIGKILL else ""
    if -code in CRASHES:
        hint = " in the middle of onnxruntime's work; leave nodes in float with exclude_nodes, or use another recipe"
    return f"the process that made it was ended by {Signals(-code).name}{hint}"
