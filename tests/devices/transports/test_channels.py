"""Channels on a server that refuses them, or that falls silent at any moment: every wait ends, with an error of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from harness.devices import registry
from harness.devices.transports.ssh import SshTransport
from harness.devices.transports.watch import StalledError, Watch
from harness.errors import DeviceError
from tests.proxy import Proxy
from tests.sshd import SshServer


def transport(text: str) -> SshTransport:
    Path("devices.toml").write_text(text)
    return SshTransport(registry.load().get("board"))


@pytest.fixture(scope="module")
def narrow() -> Iterator[SshServer]:
    """A server that allows one channel on a connection."""
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    with SshServer() as server:
        server.restart("MaxSessions 1")
        yield server


@pytest.mark.ssh
def test_a_refused_channel_goes_to_a_second_connection(narrow: SshServer) -> None:
    board = transport(narrow.entry("board"))
    first = board.open(["cat"], "first")
    for word in ("one", "two"):
        second = board.open(["echo", word], "second")
        assert list(second.lines()) == [f"{word}\n".encode()]
        second.close()
    first.write(b"still here\n")
    first.end()
    assert list(first.lines()) == [b"still here\n"]
    first.close()
    board.close()


@pytest.mark.ssh
@pytest.mark.faults
def test_a_second_connection_that_can_not_be_made_is_told(narrow: SshServer) -> None:
    with Proxy(narrow.port) as proxy:
        board = transport(narrow.entry("board", port=proxy.port, connect_time=1))
        first = board.open(["cat"], "first")
        proxy.target = 1
        with pytest.raises(
            DeviceError, match=r"board: stop: its SSH server refuses another channel .*MaxSessions.* another connection as well"
        ):
            board.open(["echo"], "stop")
        first.write(b"x")
        board.close()


@pytest.mark.ssh
def test_a_server_that_allows_no_channel_is_named() -> None:
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    with SshServer() as server:
        server.restart("MaxSessions 0")
        board = transport(server.entry("board"))
        with pytest.raises(DeviceError, match=r"board: probe: 127\.0\.0\.1:\d+ refuses to open a channel .*MaxSessions"):
            board.open(["echo"], "probe")
        board.close()
        # An alias is named by the host and the port that it leads to.
        (Path.home() / ".ssh").mkdir()
        (Path.home() / ".ssh" / "config").write_text(f"Host rpi\n  HostName 127.0.0.1\n  Port {server.port}\n")
        board = transport(server.entry("board", host="rpi", port=""))
        with pytest.raises(DeviceError, match=rf"board: probe: 127\.0\.0\.1:{server.port} refuses to open a channel"):
            board.open(["echo"], "probe")
        board.close()


# Where a connection freezes: just before paramiko is asked for this.
MOMENTS: dict[str, Callable[[SshTransport], object]] = {
    "open_session": lambda board: board.open(["cat"], "probe"),
    "exec_command": lambda board: board.open(["cat"], "probe"),
    "recv": lambda board: list(board.open(["cat"], "probe").lines()),
    "send": lambda board: board.open(["cat"], "probe").write(b"x" * 20_000_000),
    "shutdown_write": lambda board: board.open(["cat"], "probe").end(),
    "close": lambda board: board.open(["cat"], "probe").close(),
}


@pytest.mark.ssh
@pytest.mark.faults
@pytest.mark.parametrize("jump", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_connection_that_freezes_at_any_moment_is_noticed(
    sshd: SshServer, monkeypatch: pytest.MonkeyPatch, moment: str, jump: bool
) -> None:
    monkeypatch.setattr("harness.devices.transports.line.OPEN_SECONDS", 1)
    with Proxy(sshd.port) as proxy:
        keys = {"connect_time": 2, "silence_time": 2}
        entry = sshd.entry("board", port=proxy.port, **keys)
        if jump:
            entry = sshd.entry("gate", port=proxy.port, **keys) + sshd.entry("board", jump="gate", **keys)
        board = transport(entry)
        kind = paramiko.Transport if moment == "open_session" else paramiko.Channel
        before = getattr(kind, moment)

        def strike(self: object, *words: object, **named: object) -> object:
            # The hop's own channel, which carries the connection to the device, is none of the device's.
            if threading.current_thread() is threading.main_thread():
                proxy.strike("freeze")
            return before(self, *words, **named)

        monkeypatch.setattr(kind, moment, strike)
        begun = time.monotonic()
        if moment in {"shutdown_write", "close"}:
            # What is sent goes into buffers: nobody waits for an answer.
            MOMENTS[moment](board)
        else:
            with pytest.raises(DeviceError):
                MOMENTS[moment](board)
        board.close()
        assert time.monotonic() - begun < 60
    assert [thread for thread in threading.enumerate() if thread.name == "watch" and thread.is_alive()] == []


def test_a_watch_cuts_what_takes_too_long_and_leaves_the_rest() -> None:
    cut = threading.Event()
    watch = Watch(cut.set, 100)

    def wait(seconds: float) -> None:
        if cut.wait(seconds):
            message = "Socket is closed"
            raise OSError(message)

    with watch.limit(100):
        wait(0.1)
    with pytest.raises(StalledError, match=r"no progress within 0\.1 s"), watch.limit(0.1):
        wait(60)
    watch.end()
