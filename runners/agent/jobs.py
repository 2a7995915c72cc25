"""The jobs of a device: starting them, detached from the link; following their journals; ending them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import holders
import machine_lease
import packages
import runtimes
import small_files
import store
import version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from protocol import Request

STOP_SECONDS = 5.0
# Following must not disturb the measurement.
POLL_SECONDS = 0.2
# A disk with less room than this is full.
FULL = 1 << 20


def start(job: str, program: str, runner: str) -> None:
    """Write the request and start the job, detached from this process and its link.

    A job that was started before is not changed, and the answer is the same: the first answer may have been lost.
    """
    request: Request = json.loads(sys.stdin.buffer.read())
    if request.get("protocol") != version.PROTOCOL:
        raise ValueError("this agent speaks protocol %d, not %r" % (version.PROTOCOL, request.get("protocol")))
    files = [program, runner, request["prober"]]
    for case in request["cases"]:
        files += [case["model"], case["inputs"]]
        data = case.get("data")
        files += [data] if data else []
    missing = sorted({name for name in files if not os.path.exists(store.blob_path(name))})
    if missing:
        store.say({"event": "missing", "sha256": missing})
        return
    sync_uploads()
    end_orphaned_workers()
    store.folder(store.job_path(job, "outputs"))
    # Taken here and inherited, so that no follower can find it free before the job holds it.
    lock = open(store.job_path(job, "lock"), "ab")
    if not store.read_small(store.job_path(job, "pid")) and store.take(lock):
        with open(store.job_path(job, "request.json"), "w", encoding="utf-8") as file:
            json.dump(dict(request, programs=[program, runner]), file)
        open(store.job_path(job, "journal.jsonl"), "wb").close()
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003
        with open(store.job_path(job, "log"), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, *packages.ISOLATED, store.blob_path(program), store.job_path(job), store.blob_path(runner)],
                env=runtimes.environment(runtimes.current()), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, pass_fds=[lock.fileno()],
            )  # fmt: skip
        try:
            small_files.replace(store.job_path(job, "pid"), str(process.pid))
        except OSError:
            process.kill()  # nobody could end it any more
            process.wait()
            raise
    store.say({"event": "started", "pid": int(store.read_small(store.job_path(job, "pid")) or 0)})


def has(job: str) -> None:
    """Report whether a job was started here, and by which version of the harness."""
    asked: dict[str, Any] = {}
    with contextlib.suppress(ValueError, TypeError):
        asked = dict(json.loads(store.read_small(store.job_path(job, "request.json"))))
    who = asked.get("who")
    asked_by = who.get("harness") if isinstance(who, dict) else None
    found = bool(store.read_small(store.job_path(job, "pid")))
    store.say({"event": "has", "found": found, "protocol": asked.get("protocol"), "harness": asked_by})


def holder() -> None:
    """Report who holds this device."""
    store.say({"event": "holder", "holder": holders.holder()})


def sync_uploads() -> None:
    """Write uploaded files to the disk before a job starts: writing them back later would disturb it, and power may be lost."""
    marker = os.path.join(store.root(), "blobs", "unsynced")
    if os.path.exists(marker):
        alive, thread = store.Alive(), threading.Thread(target=os.sync, daemon=True)
        thread.start()
        while thread.is_alive():
            alive.tick()
            thread.join(0.05)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(marker)


def follow(job: str, offset: str) -> None:
    """Send the journal from a byte offset on, until the job has ended."""
    with open(store.job_path(job, "journal.jsonl"), "rb") as journal, open(store.job_path(job, "lock"), "rb") as lock:
        journal.seek(int(offset))
        rest: list[bytes] = []
        held, quiet_since = 0, time.monotonic()
        while True:
            ended = not store.is_locked(lock)
            data = journal.read(store.CHUNK)
            if data:
                whole, newline, tail = data.rpartition(b"\n")
                if newline:
                    for piece in (*rest, whole, newline):
                        sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
                    rest, held, quiet_since = [], 0, time.monotonic()
                rest.append(tail)
                held += len(tail)
                if held > store.LINE_LIMIT:
                    raise ValueError("the journal has a line of more than %d bytes" % store.LINE_LIMIT)
            elif ended:
                break
            else:
                if time.monotonic() - quiet_since > store.ALIVE_SECONDS:
                    store.say({"event": "alive"})
                    quiet_since = time.monotonic()
                time.sleep(POLL_SECONDS)
    if store.read_small(store.job_path(job, "rc")) == "0":
        store.say({"event": "ended"})
    else:
        end_orphaned_workers()
        words = [*last_words(store.job_path(job, "log")).splitlines()[-5:], disk()]
        store.say({"event": "died", "log": "\n".join(filter(None, words))[-store.MESSAGE_LIMIT :]})


def last_words(path: str) -> str:
    """The end of a text file."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - store.MESSAGE_LIMIT))
        return file.read(store.MESSAGE_LIMIT).decode(errors="replace")
    return ""


def disk() -> str:
    """What is wrong with the store's disk: a job that died of it could not write that down. Empty if nothing is."""
    found = os.statvfs(store.root())
    if found.f_flag & os.ST_RDONLY:
        return "the disk of %s is read-only" % store.root()
    if found.f_bavail * found.f_frsize < FULL or found.f_files > 0 == found.f_favail:
        return "the disk of %s is full" % store.root()
    return ""


def read(job: str, *names: str) -> None:
    """Send files of a job's outputs, one after the other."""
    import base64
    import hashlib

    for name in names:
        digest, size = hashlib.sha256(), 0
        with open(store.job_path(job, "outputs", name), "rb") as file:
            for data in iter(lambda: file.read(store.CHUNK), b""):
                digest.update(data)
                size += len(data)
                store.say({"event": "data", "base64": base64.b64encode(data).decode()})
        store.say({"event": "ended", "size": size, "sha256": digest.hexdigest()})


def stop(job: str) -> None:
    """Ask a job to stop, and wait until it has."""
    store.say({"event": "stopped", "was_running": end(job)})


def end(job: str) -> bool:
    """Ask a job to stop, and kill its process group if it has not stopped within five seconds.

    Returns:
        Whether it was running.
    """
    pid = int(store.read_small(store.job_path(job, "pid")) or 0)
    with open(store.job_path(job, "lock"), "rb") as lock:
        running = store.is_locked(lock)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            if running and pid and store.is_locked(lock):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign) if sign == signal.SIGTERM else os.killpg(pid, sign)
                while store.is_locked(lock) and time.monotonic() < deadline:
                    time.sleep(0.05)
    return running


def release() -> None:
    """End the job that holds this device, and workers that a dead job left behind. Only root can end a job of another account."""
    ended = False
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        job = str(json.loads(holders.holder_here() or "{}")["job"])
        ended = end(job)
        ended = end_orphaned_workers() or ended
    held = machine_lease.peer()
    mine = held is not None and os.geteuid() in (0, held[1])
    if mine:
        # One of another store; or this is root.
        ended = machine_lease.end() or ended
        held = machine_lease.peer()
    if held is not None:
        store.say({"event": "held", "holder": holders.holder(), "mine": mine})
    else:
        store.say({"event": "stopped", "was_running": ended})


def end_orphaned_workers() -> bool:
    """Kill the workers of a job that died while they still hold the device; their process group is the job's.

    Returns:
        Whether there were any.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        said = holders.holder_here()
        job = str(json.loads(said or "{}")["job"])
        pid = int(store.read_small(store.job_path(job, "pid")))
        if pid > 1 and not store.is_running(job):
            time.sleep(0.1)
            if holders.holder_here() != said:
                return False  # it was the next one, which had not written its name yet
            os.killpg(pid, signal.SIGKILL)
            deadline = time.monotonic() + STOP_SECONDS
            while holders.holder_here() is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            return True
    return False
