"""How the command line begins and ends: the one place that decides the exit code of the process.

The standard library alone is imported until the guard stands: whatever fails after that is one message and ``Exit.CRASHED``. Nothing
that becomes of standard output or standard error changes a verdict.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

from harness.cli import signals, streams
from harness.errors import Exit


def start() -> NoReturn:
    """Run the command that ``sys.argv`` names.

    Raises:
        SystemExit: always, with a member of :class:`~harness.errors.Exit`.
    """
    streams.secure()
    seen = signals.install()
    last = _Last()
    # Registered before all others, so called after them.
    atexit.register(last.end)
    threads = _Threads()
    threading.excepthook = threads.record
    code = _guarded(seen)
    if threads.crashed and code == Exit.PASSED:
        code = Exit.CRASHED
    code = int(streams.finish(code))
    # Where another program calls this function, the end of the process is that program's own.
    if Path(sys.argv[0]).name == "harness":
        if code == Exit.INTERRUPTED:
            # Threads that still ask a device would be waited for; what was measuring has been stopped by now.
            signals.leave()
        last.code = code
    sys.exit(code)


class _Last:
    """Ends the process with the command's exit code before Python takes its modules apart.

    A signal at that time, or a library that crashes then, would replace the exit code.
    """

    def __init__(self) -> None:
        self.code: int | None = None

    def end(self) -> None:
        """End it; every thread has ended, and everything else that was to be done at the end is done."""
        if self.code is not None:
            streams.flush()
            os._exit(self.code)


def _guarded(seen: signals.Seen) -> int:
    """Run the command and return its exit code; an unexpected exception gives a message, a crash report and exit code 70."""
    put_back = streams.keep()
    try:
        from harness.cli import app

        code = app.run()
        seen.close()
    # Also a library's sys.exit(), whose code says nothing about a model.
    except BaseException as exc:  # noqa: BLE001 - whatever it is
        seen.close()
        put_back()
        # A signal while a module is imported reaches this place as an ImportError, a RuntimeError or a SystemError.
        if seen.interrupted or isinstance(exc, KeyboardInterrupt):
            return interrupted()
        return crashed(exc)
    if seen.interrupted and code != Exit.INTERRUPTED:
        # A library swallowed the exception, and the command went on; it has already written its JSON.
        streams.say("interrupted")
        return Exit.INTERRUPTED
    return code


def interrupted() -> Exit:
    """Say that a signal ended the command."""
    streams.say("interrupted")
    if "--json" in sys.argv[1:]:
        from harness.cli.command import say_json

        say_json({"error": "interrupted", "exit": int(Exit.INTERRUPTED)})
    return Exit.INTERRUPTED


def crashed(exc: BaseException) -> Exit:
    """Say what happened, where the report of it is, and what to do."""
    from harness import crash

    message = crash.message(exc)
    streams.say(message)
    if "--json" in sys.argv[1:]:
        from harness.cli.command import say_json

        say_json({"error": message, "exit": int(Exit.CRASHED)})
    return Exit.CRASHED


class _Threads:
    """Collects exceptions that ended a thread, which Python would only print."""

    def __init__(self) -> None:
        self.crashed = False

    def record(self, thrown: threading.ExceptHookArgs) -> None:
        """Report an exception as one of the main thread is reported."""
        if thrown.exc_value is None or isinstance(thrown.exc_value, SystemExit):
            return
        from harness import crash

        self.crashed = True
        streams.say(crash.message(thrown.exc_value))
