"""ProxyCommand: a program that carries the connection, as a socket for paramiko.

Paramiko's own does not notice when the program ends, reads none of its messages and leaves it behind.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

LOG_BYTES = 2000
# Waits for the end of this process, however it ends, and then ends the command's process group.
GUARD = 'read -r _; kill -s KILL -- "-$0"'
END_SECONDS = 2.0
HANG_UP_SECONDS = 0.5
POLL_SECONDS = 0.01
_running: set[ProxyCommand] = set()


class ProxyCommand:
    """A running ProxyCommand; paramiko uses it in place of a socket.

    Attributes:
        was_running: whether it still ran when it was closed.

    Raises:
        OSError: if it can't be started.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self._last_words = b""
        self.was_running = True
        self._hung_up = False
        self._closing = threading.Lock()
        self._socket, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            # As OpenSSH does it, with the user's shell; a session of its own, for Ctrl-C is ours to answer.
            self._process = subprocess.Popen(
                [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=writing,
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            os.close(reading)
            raise
        finally:
            theirs.close()
            os.close(writing)
        _running.add(self)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, str(self._process.pid)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        # A program that floods its standard error must neither stop for it nor fill a disk.
        self._reader = threading.Thread(target=self._read_log, args=(reading,), name="proxy-log", daemon=True)
        self._reader.start()

    def send(self, data: bytes) -> int:
        """Send some of the data, and say how much."""
        return self._socket.send(data)

    def recv(self, size: int) -> bytes:
        """Receive at most so many bytes; none means that the program has ended."""
        data = self._socket.recv(size)
        self._hung_up = self._hung_up or not data
        return data

    def settimeout(self, seconds: float | None) -> None:
        """Bound every later send and receive."""
        self._socket.settimeout(seconds)

    def cut(self) -> None:
        """Let every send and receive end now; the program itself is ended by :meth:`close`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def fault(self) -> str:
        """End the program, and say how it ended or that it did not, with its last words."""
        self.close()
        words = " ".join(self._last_words.decode(errors="replace").split()) or "no message"
        if self.was_running:
            return f"ProxyCommand '{self.command}' was still running ({words})"
        code = self._process.returncode
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"ProxyCommand '{self.command}' {ended}: {words}"

    @property
    def failed(self) -> bool:
        """Whether it had ended by itself, with a fault, when it was closed."""
        return not self.was_running and self._process.returncode != 0

    def close(self) -> None:
        """End the program and everything in its process group."""
        with self._closing:
            if self._closed:
                return
            # The kernel closes a program's files a moment before the program has ended.
            deadline = time.monotonic() + HANG_UP_SECONDS * self._hung_up
            while not self._ended() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            self.was_running = not self._ended()
            self._socket.close()
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + END_SECONDS
            while not self._ended() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            # Its children too, if they ignored the first signal: as long as it is not waited for, its number can't be another's.
            self._signal(signal.SIGKILL)
            self._guard.kill()
            self._guard.communicate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=END_SECONDS)
            _running.discard(self)
            # One that left the process group may still hold the pipe.
            self._reader.join(timeout=END_SECONDS)

    def kill(self) -> None:
        """End it without waiting."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, number)

    def _ended(self) -> bool:
        """Whether the program itself has ended; it is not waited for, so that its number stays its own."""
        if self._process.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def _read_log(self, reading: int) -> None:
        """Keep the end of its standard error."""
        with os.fdopen(reading, "rb", buffering=0) as log:
            while data := log.read(1 << 16):
                self._last_words = (self._last_words + data)[-LOG_BYTES:]

    @property
    def _closed(self) -> bool:
        """Paramiko looks at this."""
        return self._socket.fileno() < 0


@atexit.register
def kill_all() -> None:
    """End every ProxyCommand that is left, at once; for the end of the process, also an abrupt one."""
    for proxy in list(_running):
        proxy.kill()
