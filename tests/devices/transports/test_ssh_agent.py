"""SSH agents that are silent, slow, broken or not there: each wait has an end, and key files still get in."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.transports.ssh_agent import AgentError, SshAgent, socket_of
from harness.devices.transports.ssh_wire import string
from harness.errors import AuthenticationError, UsageError
from tests.devices.transports.test_identities import config, gets_in, keys, log_in, server
from tests.ssh_client import agent, keygen, make_key, ssh_gets_in
from tests.sshd import SshServer

__all__ = ["keys", "server"]

SECONDS = 1.0
# Far more than any of them may take, on a machine that is busy.
BOUND = 60.0
ENTRY = '[board]\nhost = "board"\nconnect_time = "1s"\n'


def silent(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(1000)
    over.wait(BOUND)


def slow(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(1000)
    for byte in struct.pack(">I", 1000) + bytes([12]) * 1000:
        connection.sendall(bytes([byte]))
        over.wait(0.3)


def garbage(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)


def huge(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(1000)
    connection.sendall(struct.pack(">IB", 0xFFFFFFFF, 12) + bytes(1000))


def empty(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(1000)
    connection.sendall(struct.pack(">I", 0))


def short(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(1000)
    connection.sendall(struct.pack(">IBII", 9, 12, 3, 1000))


def many(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(1000)
    connection.sendall(struct.pack(">IBI", 5, 12, 0xFFFFFFFF))


def refusing(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(1000)
    connection.sendall(struct.pack(">IB", 1, 5))


def closing(connection: socket.socket, _over: threading.Event) -> None:
    connection.close()


@contextlib.contextmanager
def impostor(behave: object) -> Iterator[str]:
    """Something that listens where an agent should."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/socket"
        listener.bind(path)
        listener.listen(8)

        over, threads = threading.Event(), []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=one, args=(connection,)))
                    threads[-1].start()

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                behave(connection, over)  # type: ignore[operator]

        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield path
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


IMPOSTORS = {
    silent: "does not answer within 1 s",
    slow: "does not answer within 1 s",
    garbage: "does not speak the agent's protocol",
    huge: "does not speak the agent's protocol",
    empty: "does not speak the agent's protocol",
    short: "does not list its keys",
    many: "does not list its keys",
    refusing: "does not list its keys",
    closing: "hung up before it answered",
}


@pytest.mark.parametrize(("behave", "words"), IMPOSTORS.items())
def test_an_agent_that_is_none(behave: object, words: str) -> None:
    with impostor(behave) as path:
        since = time.monotonic()
        with pytest.raises(AgentError) as caught:
            SshAgent(path, SECONDS, setting=False).keys()
        assert time.monotonic() - since < BOUND
        assert str(caught.value).startswith(f"the SSH agent at {path} ")
        assert words in str(caught.value)
        assert str(caught.value).endswith(": unset SSH_AUTH_SOCK, or set identity_file")


def test_an_agent_whose_queue_is_full() -> None:
    with tempfile.TemporaryDirectory(prefix="agent-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/socket"
        listener.bind(path)
        listener.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.connect(path)
        with pytest.raises(AgentError, match="does not answer within 1 s"):
            SshAgent(path, SECONDS, setting=False).keys()
        for one in waiting:
            one.close()


def test_places_where_nothing_listens(tmp_path: Path) -> None:
    stale, file = tmp_path / "stale", tmp_path / "file"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(stale))
    file.write_text("")
    for place in (stale, file, tmp_path, tmp_path / "nothing", tmp_path / ("long" * 50)):
        with pytest.raises(AgentError, match="can't be reached"):
            SshAgent(str(place), SECONDS, setting=False).keys()


def test_a_silent_agent_is_waited_for_once() -> None:
    with impostor(silent) as path:
        with pytest.raises(AgentError):
            SshAgent(path, SECONDS, setting=False).keys()
        since = time.monotonic()
        for _ in range(100):
            with pytest.raises(AgentError, match="does not answer"):
                SshAgent(path, SECONDS, setting=False).keys()
        assert time.monotonic() - since < BOUND


def test_which_agent_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert socket_of(None) is None
    monkeypatch.setenv("SSH_AUTH_SOCK", "/here")
    monkeypatch.setenv("OTHER", "/there")
    assert socket_of(None) == socket_of("SSH_AUTH_SOCK") == "/here"
    assert socket_of("$OTHER") == socket_of("${OTHER}") == socket_of("/there") == "/there"
    assert socket_of("none") is socket_of("$MISSING") is None
    monkeypatch.setenv("SSH_AUTH_SOCK", "")
    assert socket_of(None) is None


def test_an_agent_in_a_home_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="'~nobody-has-this-name' can't be expanded, because there is no home directory"):
        socket_of("~nobody-has-this-name/agent")


@pytest.mark.ssh
@pytest.mark.parametrize("behave", [silent, garbage, closing])
def test_key_files_get_in_beside_a_broken_agent(
    server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch, behave: object
) -> None:
    with impostor(behave) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        config(server, f"IdentityFile {keys}/ed25519")
        log_in(ENTRY)
        config(server, f"IdentityFile {keys}/certified")
        since = time.monotonic()
        with pytest.raises(AuthenticationError, match=rf"the SSH agent at {path} .*unset SSH_AUTH_SOCK, or set identity_file"):
            log_in(ENTRY)
        assert time.monotonic() - since < BOUND
        config(server)
        with pytest.raises(AuthenticationError, match=rf"there is no key to offer.*the SSH agent at {path}"):
            log_in(ENTRY)


def strange(connection: socket.socket, _over: threading.Event) -> None:
    """It holds keys that are none, and one of a kind that nobody knows; it knows no extensions."""
    keys = b"".join(
        string(blob) + string(b"\xff\n") for blob in (b"", b"\0", string(b"\xff"), string(b"ssh-new@here") + bytes(9))
    )
    listed = string(bytes([12]) + struct.pack(">I", 4) + keys)
    while request := connection.recv(10_000):
        connection.sendall(listed if request[4] == 11 else string(b"\5"))


@pytest.mark.ssh
def test_an_agent_with_strange_keys(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with impostor(strange) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        config(server)
        with pytest.raises(
            AuthenticationError, match=r"tried: the SSH agent's key '[^']*' \(SHA256:[^ ]*\) \(refused\); it takes"
        ):
            log_in(ENTRY)
        config(server, f"IdentityFile {keys}/ed25519")
        log_in(ENTRY)


@pytest.mark.ssh
def test_a_silent_agent_that_is_not_needed(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(connection: socket.socket, _over: threading.Event) -> None:
        asked.append(connection.recv(10))

    with impostor(note) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        log_in(server.entry("board"))
        config(server, f"IdentityFile {keys}/ed25519", "IdentitiesOnly yes")
        log_in(ENTRY)
    assert asked == []


@pytest.mark.ssh
def test_a_stale_socket(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    config(server, f"IdentityFile {keys}/ed25519")
    log_in(ENTRY)
    config(server, f"IdentityAgent {tmp_path}/other")
    with pytest.raises(
        AuthenticationError, match=rf"the SSH agent at {tmp_path}/other can't be reached .*: correct IdentityAgent"
    ):
        log_in(ENTRY)


@pytest.mark.ssh
@pytest.mark.faults
def test_an_agent_that_hangs_at_signing_alone(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hardware key that waits for a touch: all else is the real agent's."""
    with agent(keys / "ed25519") as real:

        def untouched(connection: socket.socket, over: threading.Event) -> None:
            with socket.socket(socket.AF_UNIX) as onward:
                onward.connect(real)
                while (request := connection.recv(10_000)) and request[4] != 13:
                    onward.sendall(request)
                    connection.sendall(onward.recv(10_000))
            over.wait(BOUND)

        with impostor(untouched) as path:
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            config(server)
            since = time.monotonic()
            with pytest.raises(
                AuthenticationError, match=r"agent's key .*did not sign .*touch, a PIN or a confirmation\) within 2 s"
            ):
                log_in(ENTRY)
            assert time.monotonic() - since < BOUND
            config(server, f"IdentityFile {keys}/rsa")
            log_in(ENTRY)


@pytest.mark.ssh
def test_an_agent_that_is_locked_or_asks(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent() as place:
        environment = {**os.environ, "SSH_AUTH_SOCK": place, "SSH_ASKPASS": "/bin/false", "DISPLAY": ":9"}
        # With -c each use is confirmed by a program, which says no here.
        subprocess.run(["ssh-add", "-q", "-c", keys / "ed25519"], check=True, env=environment, stdin=subprocess.DEVNULL)
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        config(server)
        with pytest.raises(
            AuthenticationError, match="refuses to sign with this key: is the agent locked, or was the confirmation declined"
        ):
            log_in(ENTRY)


@pytest.mark.ssh
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_the_agents_certificates(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mine = make_key(keys / "mine", kind)
    keygen("-s", keys / "ca", "-I", "x", "-n", server.user, f"{mine}.pub")
    with agent(make_key(keys / "other"), mine) as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        config(server)
        log_in(ENTRY)


@pytest.mark.ssh
def test_a_key_that_is_bound_to_hosts(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """'ssh-add -h': the agent signs for these hosts alone, and must be told which host asks."""
    known = tmp_path / "known"
    known.write_text(f"board {server.host_key}\nother {server.public('other_key')}\n")
    for host, works in {"board": True, "other": False}.items():
        with agent() as place:
            environment = {**os.environ, "SSH_AUTH_SOCK": place}
            subprocess.run(["ssh-add", "-q", "-H", known, "-h", host, keys / "ed25519"], check=True, env=environment)
            monkeypatch.setenv("SSH_AUTH_SOCK", place)
            path = config(server)
            assert gets_in() is ssh_gets_in("board", path, SSH_AUTH_SOCK=place) is works
