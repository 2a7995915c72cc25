"""Servers that do not begin as an SSH server does, or have no algorithm in common with us: the message says what they said."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.link import Link
from harness.devices.transports.ssh import host_key
from harness.errors import ConnectError, HostKeyError
from tests.sshd import SshServer


def link(text: str) -> Link:
    Path("devices.toml").write_text(text)
    return Link(registry.load().get("board"))


@contextlib.contextmanager
def says(data: bytes, *, hold: bool = False) -> Iterator[int]:
    """A server that says this and hangs up, or waits; gives its port."""
    ended = threading.Event()

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(data)
                if hold:
                    ended.wait()
                # What was not read would turn the end into a reset.
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                while connection.recv(1000):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=60)


def entry(port: int) -> str:
    return f'[board]\nhost = "127.0.0.1"\nport = {port}\nuser = "root"\nconnect_time = 1\n'


SAID = {
    b"Not allowed at this time\r\n": r"said 'Not allowed at this time': its sshd refuses this machine for some time .*PerSourcePenalties",
    b"Exceeded MaxStartups\r\n": r"said 'Exceeded MaxStartups': too many logins are in progress there",
    b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n": r"is a web server, not an SSH server \(it said 'HTTP/1\.1 400 Bad Request",
    b"220 mail.example ESMTP ready\r\n": r"did not begin as an SSH server does; it said '220 mail\.example ESMTP ready'",
    b"\xff\xfb\x01\xff\xfb\x03login: ": r"did not begin as an SSH server does; it said '.*login:'",
    b"refused by hosts.deny \x1b[2J": r"it said 'refused by hosts\.deny \[2J'",
    b"SSH-1.5-OpenSSH_3.9\r\n": r"speaks only SSH version 1",
}


# It is asked again, a few times.
SLOW = [pytest.param(data, marks=pytest.mark.faults) if b"MaxStartups" in data else data for data in SAID]


@pytest.mark.parametrize("data", SLOW)
def test_what_a_server_says_before_its_version_is_shown(data: bytes) -> None:
    with says(data) as port, pytest.raises(ConnectError, match=SAID[data]) as caught:
        link(entry(port))
    assert f"board: connect: 127.0.0.1:{port} " in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "gave no SSH greeting within 1 s: is it an SSH server"),
        (b"router login: ", "it said 'router login:'"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not finish the key exchange within 1 s"),
    ],
)
def test_a_server_that_waits(data: bytes, words: str) -> None:
    with says(data, hold=True) as port, pytest.raises(ConnectError, match=words):
        link(entry(port))


def test_a_flood_before_the_version_is_bounded() -> None:
    with says(b"x" * 10_000_000) as port, pytest.raises(ConnectError, match="it said 'xxx") as caught:
        link(entry(port))
    assert len(str(caught.value)) < 1000


def packet(payload: bytes) -> bytes:
    """A packet before encryption, RFC 4253, 6."""
    padding = 4 + -(len(payload) + 9) % 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def test_the_length_of_a_packet_is_not_believed() -> None:
    data = b"SSH-2.0-odd\r\n" + struct.pack(">IB", 0x7FFFFFF4, 4) + bytes(4_000_000)
    with says(data, hold=True) as port, pytest.raises(ConnectError, match="the server sent a malformed packet of 2147483"):
        link(entry(port))


MALFORMED = {
    "not UTF-8": packet(b"\x14" + bytes(16) + b"\x00\x00\x00\x02\xff\xfe"),
    "cut": packet(b"\x14" + bytes(3)),
    "empty": packet(b""),
    "a huge length": struct.pack(">IB", 0x7FFFFFFF, 4) + bytes(40),
    "zero length": bytes(64),
    "not key exchange": packet(b"\x5a" + bytes(20)),
    "noise": random.Random(1).randbytes(3000),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_server_that_sends_malformed_packets(kind: str) -> None:
    with says(b"SSH-2.0-odd\r\n" + MALFORMED[kind]) as port, pytest.raises(ConnectError, match=r"board: connect: .*127\.0\.0\.1"):
        link(entry(port))


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    """An OpenSSH server of this module's own, which has RSA and ECDSA host keys, too."""
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    with SshServer() as running:
        for kind in ("rsa", "ecdsa"):
            file = running.folder / f"{kind}_key"
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(file)], check=True)
            subprocess.run(["chown", "--reference", str(running.identity), str(file)], check=True)
        yield running


LINES = {
    "key exchange": (
        ["KexAlgorithms diffie-hellman-group1-sha1,diffie-hellman-group14-sha1"],
        r"has no key exchange algorithm in common: the server offers diffie-hellman-group1-sha1, diffie-hellman-group14-sha1, .*curve25519.*KexAlgorithms",
    ),
    "cipher": (
        ["Ciphers chacha20-poly1305@openssh.com"],
        r"no cipher algorithm in common: the server offers chacha20-poly1305@openssh\.com, .*\(Ciphers\)",
    ),
    "MAC": (
        ["MACs umac-64@openssh.com"],
        r"no MAC algorithm in common: the server offers umac-64@openssh\.com, and the harness supports .*\(MACs\)",
    ),
    "two": (
        ["Ciphers chacha20-poly1305@openssh.com", "MACs umac-64@openssh.com"],
        r"no cipher algorithm in common: the server offers chacha20-poly1305@openssh\.com, .*no MAC algorithm in common: the server offers umac-64@openssh\.com",
    ),
}


@pytest.mark.ssh
@pytest.mark.parametrize("kind", LINES)
def test_no_algorithm_in_common(server: SshServer, kind: str) -> None:
    lines, words = LINES[kind]
    server.restart(*lines)
    with pytest.raises(ConnectError, match=words):
        link(server.entry("board"))
    # The same on the way, where the message names the host.
    with pytest.raises(ConnectError, match=r"on the way there, at the jump host .*algorithm in common"):
        link(server.entry("gate") + server.entry("board", jump="gate"))


@pytest.mark.ssh
@pytest.mark.parametrize("known", ["rsa_key", "host_key", ""])
def test_a_server_that_signs_with_sha_1_alone(server: SshServer, known: str) -> None:
    server.restart("HostKeyAlgorithms ssh-rsa", f"HostKey {server.folder}/rsa_key")
    with pytest.raises(
        ConnectError, match=r"offers ssh-rsa, and the harness supports .*SHA-1.*ssh-keygen -A.*dropbearkey"
    ) as caught:
        link(server.entry("board", host_key=known and server.public(known)))
    assert "not the one expected" not in str(caught.value)
    assert "--replace" not in str(caught.value)
    with pytest.raises(ConnectError, match="offers ssh-rsa"):
        host_key(registry.load().get("board"))


@pytest.mark.ssh
def test_a_server_without_a_key_of_the_known_kind_has_another_host_key(server: SshServer) -> None:
    server.restart()
    with pytest.raises(HostKeyError, match=r"it has none of the known kind .*--replace"):
        link(server.entry("board", host_key=server.public("ecdsa_key")))
