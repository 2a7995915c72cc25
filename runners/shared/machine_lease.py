"""The lease of the machine: an abstract Unix socket, which any account may bind and only one process at a time can.

The name is no file: no account has to own it, and the kernel frees it when the last process that has the socket has ended. The kernel
also tells who bound it. What the holder answers beyond that comes from another account: it is input. PROTOCOL.md tells the rest.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import re
import signal
import socket
import struct
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from protocol import Holder

NAME = "quant-harness-lease"
ANSWER_BYTES = 4000
ANSWER_SECONDS = 1.0
# Each question leaves a connection behind until the holder takes it: one that is frozen takes none.
BACKLOG = 4096
# Many questions at once must not disturb the measurement.
PAUSE_SECONDS = 0.05
POLL_SECONDS = 0.2
ATTEMPTS = 2
KILL_SECONDS = 5.0
# What a holder may say of itself, with the most letters or the largest number that is passed on.
WORDS = {"user": 100, "host": 100, "url": 300, "job": 100, "harness": 50, "controller": 32}
NUMBERS = {"pid": 1 << 31, "since": 1e11, "protocol": 1 << 31}


def address() -> bytes:
    """The socket's name; QUANT_HARNESS_LEASE names another one, for several virtual devices on one machine."""
    chosen = os.environ.get("QUANT_HARNESS_LEASE", "")
    if chosen and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", chosen):
        raise ValueError("QUANT_HARNESS_LEASE must be 1 to 64 letters, digits, '.', '_' or '-', not %r" % chosen[:100])
    return b"\0" + "-".join(filter(None, [NAME, chosen])).encode()


def take() -> socket.socket | None:
    """Take the lease, and hold it for as long as the socket is open in any process; None if somebody else holds it.

    Raises OSError where the machine does not let this account have such a socket.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.bind(address())
        held.listen(BACKLOG)
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return held


def answer(held: socket.socket, text: str) -> None:
    """Tell everybody who connects who holds the lease, from now on."""

    def serve() -> None:
        while True:
            with contextlib.suppress(OSError):
                asker, _ = held.accept()
                with asker:
                    asker.setblocking(False)  # noqa: FBT003
                    asker.send(text.encode())
            time.sleep(PAUSE_SECONDS)

    threading.Thread(target=serve, name="lease", daemon=True).start()


def peer() -> tuple[int, int] | None:
    """The process and the account (pid, uid) that the kernel has for the holder; None if nobody holds the lease, or none can be told."""
    with asking() as asker:
        return None if asker is None else credentials(asker)


def holder() -> Holder | None:
    """Who holds the lease; None if nobody does, or if this account may not ask.

    ``uid``, ``account`` and ``process`` (its pid on this machine) are the kernel's word, ``mine`` tells whether this account may end it; ``answers`` tells whether the holder said the rest.
    """
    for attempt in range(ATTEMPTS):
        with asking() as asker:
            if asker is None:
                return None
            pid, uid = credentials(asker)
            begun = time.monotonic()
            said: Holder = checked(listen(asker)) if uid >= 0 else {}
        if said or attempt == ATTEMPTS - 1 or time.monotonic() - begun >= ANSWER_SECONDS:
            break
        time.sleep(POLL_SECONDS)  # it hung up: most likely it has just ended
    found: Holder = {**said, "answers": bool(said)}
    if uid >= 0:
        found.update({"uid": uid, "account": account(uid), "process": pid or None, "mine": os.geteuid() in (0, uid)})
    return found


@contextlib.contextmanager
def asking() -> Iterator[socket.socket | None]:
    """A connection to the holder; None if there is none. One that can't be had, for the holder takes none, has no peer."""
    try:
        asker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        yield None
        return
    with asker:
        asker.settimeout(ANSWER_SECONDS)
        try:
            asker.connect(address())
        except OSError as error:
            full = isinstance(error, (socket.timeout, BlockingIOError))
            yield asker if full else None
            return
        yield asker


def credentials(asker: socket.socket) -> tuple[int, int]:
    """The pid (0 if it is in another pid namespace) and uid (-1 if it is not known) of who bound the socket at the other end."""
    pid, uid, _ = struct.unpack("3i", asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def listen(asker: socket.socket) -> bytes:
    """What the holder says, within a second; empty if it does not answer."""
    said, deadline = b"", time.monotonic() + ANSWER_SECONDS
    with contextlib.suppress(OSError):
        while len(said) < ANSWER_BYTES and time.monotonic() < deadline:
            more = asker.recv(ANSWER_BYTES)
            if not more:
                break
            said += more
    return said


def checked(said: bytes) -> Holder:
    """The known fields of an answer, bounded and printable; what is anything else is left out."""
    try:
        told = json.loads(said)
        fields = dict(told)
    except (ValueError, TypeError, RecursionError):
        return {}
    found: Any = {}
    for key, most in WORDS.items():
        if isinstance(fields.get(key), str):
            found[key] = "".join(letter if letter.isprintable() else "?" for letter in fields[key][:most])
    for key, limit in NUMBERS.items():
        value: Any = fields.get(key)
        if type(value) in (int, float) and 0 <= value < limit:
            found[key] = value
    said_of_itself: Holder = found
    return said_of_itself


def account(uid: int) -> str:
    """An account's name, or its number where it has none here."""
    try:
        return pwd.getpwuid(uid).pw_name[:100]
    except (KeyError, OSError):
        return "uid %d" % uid


def end() -> bool:
    """End the job that holds the lease, with its workers; tells whether it is free then.

    SIGTERM lets a job write its end; five seconds later everything in its process group is killed. A process of another account than
    the one that took the lease is never touched: its number may have been given to somebody else since.
    """
    found = peer()
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if found is None or not found[0] or peer() != found:
            break
        pid, uid = found
        for each in members(pid, uid) if sign == signal.SIGKILL else [pid] if pid in members(pid, uid) else []:
            with contextlib.suppress(OSError):
                os.kill(each, sign)
        deadline = time.monotonic() + (KILL_SECONDS if sign == signal.SIGKILL or pid in members(pid, uid) else 0)
        while peer() == found and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    return found is None or peer() != found


def members(group: int, uid: int) -> list[int]:
    """The processes of a process group that belong to an account."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            place = "/proc/%d" % int(name)
            with open(place + "/stat", encoding="utf-8", errors="replace") as file:
                # After the name, which may hold anything: state, parent, process group.
                belongs = int(file.read().rpartition(")")[2].split()[2]) == group
            if belongs and os.stat(place).st_uid == uid:
                found.append(int(name))
    return found
