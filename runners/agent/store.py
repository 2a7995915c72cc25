"""The store on a device: where things are, and what the agent's commands share. PROTOCOL.md tells the rest.

The agent is a few files for Python >= 3.9 with nothing but its standard library, so that it works before any runtime is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time

import place
import small_files
from version import PROTOCOL

# The module typing itself takes longer to import than most of what is used here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from protocol import Reply
    from protocol_journal import Facts

# Of what lies in the store, and where. Versions before protocol 4 have the same, and wrote no number.
LAYOUT = 1
FOLDERS = ("blobs", "blobs/sha256", "blobs/layouts", "runtimes", "jobs", "queue")
FILES = ("layout", "lease", "imported", "blobs/lock", "blobs/unsynced", "runtimes/current")
ALIVE_SECONDS = 5.0
CHUNK = 512 * 1024
LINE_LIMIT = 64 * 1024 * 1024
MESSAGE_LIMIT = 2000
CHILD_SECONDS = 300.0


@functools.lru_cache(maxsize=1)
def root() -> str:
    """The store's folder; created with mode 0700 if it does not exist."""
    return place.made(place.chosen())


def check_layout() -> None:
    """Refuse a store that a newer version has made. A store without a number gets the number of this version."""
    path = os.path.join(root(), "layout")
    try:
        said = json.loads(read_small(path))
    except (ValueError, RecursionError):
        # A new store, or one of an older version; or the power failed while this was written.
        with contextlib.suppress(OSError):
            small_files.replace(path, json.dumps({"layout": LAYOUT, "protocol": PROTOCOL}))
        return
    found = said.get("layout") if isinstance(said, dict) else None
    if type(found) is not int or found > LAYOUT:
        newer = "layout %r, of a newer version of the harness" % (found,)
        if type(found) is not int:
            newer = "a file 'layout' of a newer version of the harness, or a damaged one"
        raise ValueError(
            "the store %s has %s; this version supports layout %d: upgrade the harness on this machine, or name another folder with store in devices.toml"
            % (root(), newer[:200], LAYOUT)
        )


def check_shape() -> None:
    """Refuse a store in which a file stands where a folder should be, or the other way round."""
    for kind, names, is_one in (("folder", FOLDERS, os.path.isdir), ("file", FILES, os.path.isfile)):
        for name in names:
            path = os.path.join(root(), name)
            if os.path.lexists(path) and not is_one(path):
                raise ValueError("%s is not a %s: remove it, or name another store with store in devices.toml" % (path, kind))


def folder(path: str) -> str:
    """Create a folder with mode 0700, and those above it, if they do not exist."""
    os.makedirs(path, mode=place.OWNER_ONLY, exist_ok=True)
    return path


def blob_path(sha256: str) -> str:
    """The path of a blob; a name that is no hash is refused."""
    return os.path.join(root(), "blobs", "sha256", hashed(sha256))


def hashed(sha256: str) -> str:
    """The hash itself; anything else is refused."""
    if not re.fullmatch(r"[0-9a-f]{64}", str(sha256)):
        raise ValueError("not a sha256: %r" % str(sha256)[:100])
    return sha256


def job_path(job: str, *names: str) -> str:
    """A path in a job's folder; a name that would lead out of it is refused."""
    for name in (job, *names):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ValueError("not a plain name: %r" % name[:100])
    return os.path.join(root(), "jobs", job, *names)


def jobs() -> list[str]:
    """The names of all jobs whose folders are there."""
    folders = os.path.join(root(), "jobs")
    return (
        sorted(name for name in os.listdir(folders) if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name))
        if os.path.isdir(folders)
        else []
    )


def runtime_path(*names: str) -> str:
    """The path of the runtimes, or of the one with this hash."""
    if names and not re.fullmatch(r"[0-9a-f]{64}", names[0]):
        raise ValueError("not a runtime: %r" % names[0][:100])
    return os.path.join(root(), "runtimes", *names)


def say(reply: Reply | Facts) -> None:
    """Write one line of the protocol."""
    mention(reply)
    sys.stdout.flush()


def mention(reply: Reply | Facts) -> None:
    """Write one line of the protocol, which may be sent together with the next one."""
    sys.stdout.write(json.dumps(reply) + "\n")


class Alive:
    """Sends ``alive`` every few seconds while a long step is running."""

    def __init__(self) -> None:
        self.told = time.monotonic()

    def tick(self) -> None:
        """Send ``alive`` if it is time to."""
        if time.monotonic() - self.told > ALIVE_SECONDS:
            say({"event": "alive"})
            self.told = time.monotonic()


def read_small(path: str) -> str:
    """A small file's text, stripped; empty if it can't be read."""
    return small_files.read_text(path) or ""


def take(lock: BinaryIO) -> bool:
    """Take a lock, if it is free."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(lock: BinaryIO) -> bool:
    """Whether the process that took a lock still holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def is_running(job: str) -> bool:
    """Whether a job is alive."""
    try:
        with open(job_path(job, "lock"), "rb") as lock:
            return is_locked(lock)
    except OSError:
        return False


def run_child(words: list[str], env: dict[str, str]) -> tuple[int, str, str]:
    """Run a child to its end, and send ``alive`` meanwhile.

    Returns:
        Its exit code, its output, and its standard error; if it took too long, a message that says so in place of the latter.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=env, start_new_session=True)
    deadline, late = time.monotonic() + CHILD_SECONDS, False
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            out, log = process.communicate(timeout=ALIVE_SECONDS)
            if late:
                return 1, "", "it took more than %g s" % CHILD_SECONDS
            return process.returncode, out.decode(errors="replace"), log.decode(errors="replace")
        say({"event": "alive"})
        late = time.monotonic() > deadline
        if late:
            os.killpg(process.pid, signal.SIGKILL)
