"""A TCP proxy on 127.0.0.1 that makes a good link a bad one: slow, thin, cut, frozen, or with a flipped byte.

``python -m tests.proxy PORT DELAY RATE`` runs one alone: seconds of delay each way and bytes per second (0: as fast as it goes).
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Literal, Self

Fault = Literal["fin", "rst", "freeze", "flip"]
READ = 1 << 16
# As a network card's queue, in seconds: more than a round trip's worth is not taken from the sender ahead of time.
AHEAD = 64


@dataclass
class Link:
    """One connection through the proxy."""

    ours: socket.socket
    theirs: socket.socket
    carried: int = 0
    fault: Fault | None = None
    at: int = 0
    frozen: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Started by ``with``.

    Args:
        port: of the real server on 127.0.0.1.
        delay: seconds that everything takes each way.
        rate: bytes per second each way; 0 is no limit.
    """

    def __init__(self, port: int, delay: float = 0.0, rate: float = 0.0) -> None:
        self.target, self.delay, self.rate = port, delay, rate
        self.links: list[Link] = []
        self.refused = 0
        self._planned: tuple[Fault, int, int] | None = None
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closed.set()
        self._server.close()
        # Wakes up accept.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._thread.join(timeout=60)
        for link in self.links:
            link.frozen.set()
            _end(link, "fin")

    def plan(self, fault: Fault, at: int = 0, times: int = 1) -> None:
        """Let the next connections fail once they have carried so many bytes towards the server."""
        self._planned = (fault, at, times)

    def strike(self, fault: Fault) -> None:
        """Let all connections that are open fail now."""
        for link in list(self.links):
            self._fail(link, fault)

    @property
    def carried(self) -> int:
        """Bytes that went towards the server, over all connections."""
        return sum(link.carried for link in self.links)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                ours, _ = self._server.accept()
            except OSError:
                return
            try:
                theirs = socket.create_connection(("127.0.0.1", self.target), timeout=60)
            except OSError:
                self.refused += 1
                ours.close()
                continue
            for each in (ours, theirs):
                each.settimeout(None)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(ours, theirs)
            if self._planned is not None and self._planned[2] > 0:
                fault, at, times = self._planned
                self._planned = (fault, at, times - 1)
                link.fault, link.at = fault, at
            self.links.append(link)
            for up in (True, False):
                pipe: queue.Queue[tuple[float, bytes]] = queue.Queue(AHEAD if self.delay or self.rate else 2)
                threading.Thread(target=self._read, args=(link, pipe, up), daemon=True).start()
                threading.Thread(target=self._write, args=(link, pipe, up), daemon=True).start()

    def _read(self, link: Link, pipe: queue.Queue[tuple[float, bytes]], up: bool) -> None:
        source = link.ours if up else link.theirs
        data = b"-"
        while data:
            try:
                data = source.recv(READ)
            except OSError:
                data = b""
            pipe.put((time.monotonic() + self.delay, data))

    def _write(self, link: Link, pipe: queue.Queue[tuple[float, bytes]], up: bool) -> None:
        sink = link.theirs if up else link.ours
        free = 0.0
        while True:
            due, data = pipe.get()
            if link.frozen.is_set():
                self._closed.wait()
                return
            now = time.monotonic()
            if self.rate:
                free = max(free, now) + len(data) / self.rate
                due = max(due, free)
            if due > now:
                time.sleep(due - now)
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if up and link.fault is not None and link.carried + len(data) > link.at:
                    keep = max(0, link.at - link.carried)
                    sink.sendall(data[:keep])
                    link.carried += keep
                    fault, link.fault = link.fault, None
                    if fault != "flip":
                        self._fail(link, fault)
                        continue
                    data = bytes([data[keep] ^ 1]) + data[keep + 1 :]
                sink.sendall(data)
                link.carried += len(data) if up else 0
            except OSError:
                _end(link, "fin")
                return

    def _fail(self, link: Link, fault: Fault) -> None:
        if fault == "freeze":
            link.frozen.set()
        else:
            _end(link, fault)


def _end(link: Link, fault: Fault) -> None:
    """End both halves of a connection, in order or by a reset."""
    for each in (link.ours, link.theirs):
        with contextlib.suppress(OSError):
            if fault == "rst":
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # Wakes the thread that reads; without that the socket would stay.
                each.shutdown(socket.SHUT_RD)
            else:
                each.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            each.close()


if __name__ == "__main__":
    with Proxy(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])) as proxy:
        sys.stdout.write(f"{proxy.port}\n")
        sys.stdout.flush()
        sys.stdin.read()
