"""ProxyCommand: a program that carries the connection, as a socket for paramiko.

Paramiko's own does not notice when the program ends, reads none of its messages and leaves it behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading

LOG_BYTES = 2000
END_SECONDS = 2.0


class ProxyCommand:
    """A running ProxyCommand; paramiko uses it in place of a socket."""

    def __init__(self, command: str) -> None:
        self.command = command
        self._last_words = ""
        self._closing = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._socket, theirs = socket.socketpair()
        with theirs:
            # As OpenSSH does it; a session of its own, for Ctrl-C is ours to answer.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._log,
                start_new_session=True,
            )

    def send(self, data: bytes) -> int:
        """Send some of the data, and say how much."""
        return self._socket.send(data)

    def recv(self, size: int) -> bytes:
        """Receive at most so many bytes; none means that the program has ended."""
        return self._socket.recv(size)

    def settimeout(self, seconds: float | None) -> None:
        """Bound every later send and receive."""
        self._socket.settimeout(seconds)

    def fault(self) -> str | None:
        """End the program and say how it had failed, with its last words; None if it had not."""
        self.close()
        if self._process.returncode in {0, -signal.SIGTERM, -signal.SIGKILL}:
            return None
        return f"ProxyCommand '{self.command}' ended with {self._process.returncode}: {self._last_words or 'no message'}"

    def close(self) -> None:
        """End the program and everything that it started."""
        with self._closing:
            if self._closed:
                return
            self._socket.close()
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            size = self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, size - LOG_BYTES))
            self._last_words = " ".join(self._log.read().decode(errors="replace").split())
            self._log.close()

    @property
    def _closed(self) -> bool:
        """Paramiko looks at this."""
        return self._socket.fileno() < 0
