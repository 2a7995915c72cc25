"""The device's side of store and jobs: receives files, starts a runner, hands out what it writes; PROTOCOL.md tells how.

One file for Python >= 3.9 with nothing but its standard library, so that it works before any runtime is there.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import BinaryIO, Callable

PROTOCOL = 1
ALIVE_SECONDS = 5.0
STOP_SECONDS = 5.0
CHUNK = 512 * 1024
MESSAGE_LIMIT = 2000


def store() -> str:
    """The folder that holds blobs and jobs; created with mode 0700."""
    root = os.environ.get("QUANT_HARNESS_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "quant-harness")
    os.makedirs(root, mode=0o700, exist_ok=True)
    return root


def blob_path(sha256: str) -> str:
    """The place of a blob; a name that is no hash is refused."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError("not a sha256: %r" % sha256[:100])
    return os.path.join(store(), "blobs", "sha256", sha256)


def job_path(job: str, *names: str) -> str:
    """A path in a job's folder; a name that would lead out of it is refused."""
    for name in (job, *names):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ValueError("not a plain name: %r" % name[:100])
    return os.path.join(store(), "jobs", job, *names)


def say(event: str, **fields: object) -> None:
    """Write one line of the protocol."""
    sys.stdout.write(json.dumps(dict(event=event, **fields)) + "\n")
    sys.stdout.flush()


def read_small(path: str) -> str:
    """A small file's text, or an empty one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def receive() -> None:
    """Answer which blobs are missing, then store what comes, verified."""
    os.makedirs(os.path.dirname(blob_path("0" * 64)), mode=0o700, exist_ok=True)
    stream = sys.stdin.buffer
    for line in iter(stream.readline, b""):
        head = json.loads(line)
        if "have" in head:
            say("missing", sha256=[name for name in head["have"] if not os.path.exists(blob_path(name))])
            continue
        store_blob(stream, blob_path(head["sha256"]), head["sha256"], head["size"])
        say("stored", sha256=head["sha256"])


def store_blob(stream: BinaryIO, path: str, sha256: str, size: int) -> None:
    """Write one blob beside its place; rename it once size and hash are right."""
    part = "%s.%d.part" % (path, os.getpid())
    digest = hashlib.sha256()
    try:
        with open(part, "wb") as file:
            left = size
            while left:
                data = stream.read(min(CHUNK, left))
                if not data:
                    raise EOFError("the stream ended %d bytes before the end of %s" % (left, sha256))
                digest.update(data)
                file.write(data)
                left -= len(data)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise ValueError("what arrived as %s has the hash %s" % (sha256, digest.hexdigest()))
        os.rename(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def start(job: str, runner: str) -> None:
    """Write the request, then run the job detached from this process and its link."""
    request = json.loads(sys.stdin.buffer.read())
    if request.get("protocol") != PROTOCOL:
        raise ValueError("this agent speaks protocol %d, not %r" % (PROTOCOL, request.get("protocol")))
    if not os.path.exists(blob_path(runner)):
        raise ValueError("the runner %s is not in the store" % runner)
    os.makedirs(job_path(job, "outputs"), mode=0o700)
    with open(job_path(job, "request.json"), "w", encoding="utf-8") as file:
        json.dump(request, file)
    open(job_path(job, "journal.jsonl"), "wb").close()
    # The lock is taken here and inherited, so that no follower can find it free before the job holds it.
    lock = open(job_path(job, "lock"), "wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock.fileno(), True)  # noqa: FBT003
    with open(job_path(job, "log"), "wb") as log:
        child = subprocess.Popen(
            [sys.executable, blob_path(runner), "job", job_path(job)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip
    write_whole(job_path(job, "pid"), str(child.pid))
    say("started", pid=child.pid)


def write_whole(path: str, text: str) -> None:
    """Write a small file beside its place and rename it."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)


def follow(job: str, offset: str) -> None:
    """Write the journal from an offset on, until the job has ended."""
    quiet_since = time.monotonic()
    with open(job_path(job, "journal.jsonl"), "rb") as journal, open(job_path(job, "lock"), "rb") as lock:
        journal.seek(int(offset))
        rest = b""
        while True:
            ended = not is_locked(lock)
            data = journal.read(CHUNK)
            if data:
                whole, newline, rest = (rest + data).rpartition(b"\n")
                sys.stdout.buffer.write(whole + newline)
                sys.stdout.buffer.flush()
                quiet_since = time.monotonic()
            elif ended:
                break
            else:
                if time.monotonic() - quiet_since > ALIVE_SECONDS:
                    say("alive")
                    quiet_since = time.monotonic()
                time.sleep(0.05)
    if read_small(job_path(job, "rc")) == "0":
        say("ended")
    else:
        say("died", log="\n".join(read_small(job_path(job, "log")).splitlines()[-5:])[-MESSAGE_LIMIT:])


def is_locked(lock: BinaryIO) -> bool:
    """Whether the job's process still holds its lock."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def read(job: str, name: str) -> None:
    """Write a file of a job's outputs as base64 lines."""
    digest, size = hashlib.sha256(), 0
    with open(job_path(job, "outputs", name), "rb") as file:
        for data in iter(lambda: file.read(CHUNK), b""):
            digest.update(data)
            size += len(data)
            say("data", base64=base64.b64encode(data).decode())
    say("ended", size=size, sha256=digest.hexdigest())


def stop(job: str) -> None:
    """Ask a job to stop; kill its process group when it doesn't within five seconds."""
    pid = int(read_small(job_path(job, "pid")) or 0)
    with open(job_path(job, "lock"), "rb") as lock:
        running = is_locked(lock)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            if running and pid and is_locked(lock):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign) if sign == signal.SIGTERM else os.killpg(pid, sign)
                while is_locked(lock) and time.monotonic() < deadline:
                    time.sleep(0.05)
    say("stopped", was_running=running)


def main(words: list[str]) -> int:
    """Run one command; a failure is one line of the protocol."""
    commands: dict[str, Callable[..., None]] = {
        "receive": receive,
        "start": start,
        "follow": follow,
        "read": read,
        "stop": stop,
    }
    try:
        commands[words[0]](*words[1:])
    except BrokenPipeError:
        os._exit(1)  # the reader is gone: there is nobody to tell
    except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError) as error:
        text = "%s: %s" % (error.strerror, error.filename or store()) if isinstance(error, OSError) else str(error)
        say("error", kind=type(error).__name__, message=text[:MESSAGE_LIMIT])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
