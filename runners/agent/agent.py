"""The agent: carries out one command on the store, the runtimes or the jobs of a device, and answers in JSON lines (PROTOCOL.md).

The controller sends it for each command, with only the modules that the command needs (harness/devices/program.py).
"""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import sys

import place
import store
import version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

# Imported when asked for, for only they were sent.
COMMANDS = {
    "machine": "runtimes", "unpack": "runtimes", "adopt": "runtimes", "probe": "runtimes", "receive": "upload",
    "start": "jobs", "has": "jobs", "holder": "jobs", "follow": "jobs", "read": "jobs", "stop": "jobs", "release": "jobs",
}  # fmt: skip
# Limits that the account's login files, or its system, set for what it starts.
LIMITS = {errno.EFBIG: "ulimit -f", errno.EMFILE: "ulimit -n", errno.EAGAIN: "ulimit -u"}
# These commands fail at once if the store can't be written, and not in the middle of their work.
WRITING = ("machine", "unpack", "probe", "receive", "start")
# These commands work in a store of any version.
ANYWHERE = {"machine", "holder", "release"}


def command_of(words: list[str]) -> Callable[..., None]:
    """The function of a command, after the checks that the command needs."""
    if not words or words[0] not in COMMANDS:
        other = "another version of the harness called it; use the same version on both sides"
        raise ValueError(
            "this agent speaks protocol %d and has no command '%s': %s" % (version.PROTOCOL, " ".join(words[:1])[:100], other)
        )
    if words[0] in WRITING:
        store.check_shape()
        place.check_writable(store.root())
    if words[0] not in ANYWHERE:
        store.check_layout()
    command: Callable[..., None] = getattr(importlib.import_module(COMMANDS[words[0]]), words[0])
    return command


def keep_stream_numbers() -> None:
    """Open /dev/null in place of each standard stream that a login file closed.

    Otherwise a lock gets such a number, and a child that inherits the lock has it replaced by its own stream.
    """
    number = 0
    while number <= 2:  # noqa: PLR2004 - standard error
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)


def find_python() -> None:
    """Set ``sys.executable`` to this Python: PYTHONEXECUTABLE and __PYVENV_LAUNCHER__ replace it even with ``-I``."""
    if "PYTHONEXECUTABLE" in os.environ or "__PYVENV_LAUNCHER__" in os.environ:
        with open("/proc/self/cmdline", "rb") as file:
            called = os.fsdecode(file.read().partition(b"\0")[0])
        sys.executable = shutil.which(called) or sys.executable
        for name in ("PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"):
            os.environ.pop(name, None)


def main(words: list[str]) -> int:
    """Run one command; a failure is one line of the protocol."""
    keep_stream_numbers()
    find_python()
    os.umask(0o077)  # what is stored here, and by the jobs started here, is its owner's alone
    try:
        command_of(words)(*words[1:])
    except BrokenPipeError:
        os._exit(1)  # the reader is gone: there is nobody to tell
    except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError) as error:
        text = "%s: %s" % (error.strerror, error.filename or place.chosen()) if isinstance(error, OSError) else str(error)
        if isinstance(error, KeyError):
            text = "the request lacks the key %s" % text
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = "the disk of %s is full: make room there (%s)" % (place.chosen(), text)
        if isinstance(error, OSError) and error.errno in LIMITS:
            text += "; a limit of the account is too low: see %s there" % LIMITS[error.errno]
        store.say({"event": "error", "kind": type(error).__name__, "message": text[: store.MESSAGE_LIMIT]})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
