"""A host name → an open TCP connection to the first of its addresses that answers, within a bounded time.

Paramiko waits for the name server without a limit, and gives up at the first address that does not answer.
"""

from __future__ import annotations

import errno
import os
import queue
import selectors
import socket
import threading
import time
from dataclasses import dataclass

# The next address is tried after so long without an answer, as RFC 8305 does it ("Connection Attempt Delay"), but later: each attempt
# that is given up leaves a line in the log of the server.
DELAY_SECONDS = 2.0
PENDING = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK})
LARGEST_PORT = 65535


class NameFaultError(OSError):
    """A host name for which there is no address; what went wrong is its cause."""


class UnreachableError(OSError):
    """A host none of whose addresses could be connected to.

    Attributes:
        faults: each address that was tried, with what went wrong.
    """

    def __init__(self, faults: tuple[tuple[str, OSError], ...]) -> None:
        super().__init__("; ".join(f"{address}: {fault}" for address, fault in faults))
        self.faults = faults


@dataclass
class _Attempt:
    """A connection that is being made."""

    address: str
    socket: socket.socket
    deadline: float


Address = tuple[socket.AddressFamily, str, tuple[str | int, ...] | tuple[int, bytes]]


def connect(
    host: str, port: int, seconds: float, family: socket.AddressFamily = socket.AF_UNSPEC, source: str | None = None
) -> socket.socket:
    """Connect to a host.

    Args:
        host: a name or an address.
        port: the TCP port.
        seconds: for the name to be resolved, and after that for each address to answer; all attempts together take at most twice that.
        family: only addresses of this family.
        source: the address of this machine to connect from.

    Raises:
        NameFaultError: if there is no address; from :class:`socket.gaierror`, :class:`TimeoutError` or :class:`ValueError`.
        UnreachableError: if no address can be connected to.
    """
    if not 0 < port <= LARGEST_PORT:
        raise UnreachableError(((host, OSError(errno.EINVAL, f"{port} is not a TCP port")),))
    found = resolve(host, port, seconds, family)
    try:
        return _first(found, seconds, source)
    except UnreachableError:
        raise
    except OSError as exc:
        # This machine lacks something, such as file descriptors.
        raise UnreachableError(((host, exc),)) from exc


def resolve(host: str, port: int, seconds: float, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[Address]:
    """Look up the addresses of a host, in the order that the system prefers.

    Raises:
        NameFaultError: if there is none, or none within so many seconds.
    """
    answers: queue.SimpleQueue[list[Address] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            if "\0" in host:
                # The system's resolver would read up to it.
                raise ValueError("a NUL character")  # noqa: TRY301, EM101, TRY003 - as for any other name that is none
            found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys((kind, str(place[0]), place) for kind, _, _, _, place in found)))
        except Exception as exc:  # noqa: BLE001 - the caller's thread raises it
            answers.put(exc)

    # The system's resolver can't be interrupted; a daemon thread does not keep the process from ending.
    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        message = f"no answer within {seconds:g} s"
        raise NameFaultError(message) from TimeoutError(message)
    if isinstance(answer, Exception):
        raise NameFaultError(str(answer)) from answer
    return answer


def _first(addresses: list[Address], seconds: float, source: str | None) -> socket.socket:
    """Connect to the address that answers first; the next one is tried when one fails, or does not answer for a while."""
    waiting = list(addresses)
    delay = min(DELAY_SECONDS, seconds / len(addresses))
    faults: list[tuple[str, OSError]] = []
    begin_next = time.monotonic()
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or selector.get_map():
                now = time.monotonic()
                if waiting and (now >= begin_next or not selector.get_map()):
                    begin_next = now + delay
                    found = _begin(waiting.pop(0), now + seconds, source)
                    if isinstance(found, _Attempt):
                        selector.register(found.socket, selectors.EVENT_WRITE, found)
                    else:
                        faults.append(found)
                    continue
                attempts: list[_Attempt] = [key.data for key in selector.get_map().values()]
                until = min([attempt.deadline for attempt in attempts] + [begin_next] * bool(waiting))
                answered = [key.data for key, _ in selector.select(max(0.0, until - now))]
                for attempt in attempts:
                    if (fault := _fault(attempt, attempt in answered, seconds)) is None:
                        if attempt in answered:
                            selector.unregister(attempt.socket)
                            return attempt.socket
                        continue
                    selector.unregister(attempt.socket)
                    attempt.socket.close()
                    faults.append((attempt.address, fault))
                    begin_next = now
            raise UnreachableError(tuple(faults))
        finally:
            for key in list(selector.get_map().values()):
                key.data.socket.close()


def _begin(address: Address, deadline: float, source: str | None) -> _Attempt | tuple[str, OSError]:
    """Begin to connect to an address."""
    family, name, place = address
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        return name, exc
    try:
        sock.settimeout(0.0)
        if source is not None:
            # An address, not a name, which could take long to be resolved.
            sock.bind(socket.getaddrinfo(source, 0, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4])
        code = sock.connect_ex(place)
    except socket.gaierror:
        sock.close()
        return name, OSError(errno.EADDRNOTAVAIL, f"'{source}' is not an address of that kind")
    except OSError as exc:
        sock.close()
        return name, exc
    if code and code not in PENDING:
        sock.close()
        return name, OSError(code, os.strerror(code))
    return _Attempt(name, sock, deadline)


def _fault(attempt: _Attempt, answered: bool, seconds: float) -> OSError | None:  # noqa: FBT001
    """What became of an attempt; None if it succeeded or goes on."""
    if answered:
        code = attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(code, os.strerror(code)) if code else None
    if time.monotonic() >= attempt.deadline:
        return TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:g} s")
    return None
