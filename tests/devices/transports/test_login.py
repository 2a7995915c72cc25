"""Ways to log in: keys that an agent holds, keys with a passphrase, and passwords."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path
from typing import Self

import paramiko
import pytest

from harness.devices import registry
from harness.devices.transports.ssh import SshTransport
from harness.errors import AuthenticationError, HostKeyError
from tests.devices.transports.test_ssh_config import config, link, reached
from tests.ssh_client import agent, make_key
from tests.sshd import SshServer


@pytest.mark.ssh
def test_a_key_of_the_agent(sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = sshd.entry("board", identity_file="")
    with pytest.raises(AuthenticationError):
        link(entry)
    with agent(sshd.folder / "other_key", sshd.identity) as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        assert reached(entry) == "facts"
        config(f"IdentitiesOnly yes\nIdentityFile {sshd.folder}/other_key\n")
        with pytest.raises(AuthenticationError):
            link(entry)
        config("IdentityAgent none\n")
        with pytest.raises(AuthenticationError):
            link(entry)


@pytest.mark.ssh
def test_a_locked_key_that_the_agent_holds(sshd: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.write_bytes(sshd.identity.read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(locked)], check=True)
    config(f"IdentitiesOnly yes\nIdentityFile {locked}\n")
    with agent(sshd.identity) as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        assert reached(sshd.entry("board", identity_file="")) == "facts"


class Passwords(paramiko.ServerInterface):
    """A server that takes one password and nothing else; an ordinary user can't run an sshd that takes any."""

    methods = "password"
    # Algorithms that it does not support.
    lacking: dict[str, list[str]] = {}  # noqa: RUF012 - nobody changes it

    def __init__(self, password: str = "") -> None:
        self._password = password
        self.offered: list[str] = []

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.key = paramiko.ECDSAKey.generate()
        self.rsa = paramiko.RSAKey.generate(2048)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(timeout=60)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection, disabled_algorithms=self.lacking)
            transport.add_server_key(self.key)
            transport.add_server_key(self.rsa)
            transport.start_server(event=threading.Event(), server=self)

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return self.methods

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:  # noqa: ARG002
        self.offered.append("key")
        return paramiko.common.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        self.offered.append(password)
        right = (username, password) == ("bench", self._password)
        return paramiko.common.AUTH_SUCCESSFUL if right else paramiko.common.AUTH_FAILED

    def entry(self) -> str:
        key = f"{self.key.get_name()} {self.key.get_base64()}"
        return f'[board]\nhost = "127.0.0.1"\nport = {self.port}\nuser = "bench"\nhost_key = "{key}"\npassword_env = "BOARD_PASSWORD"\n'


def test_a_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Passwords("let me in") as server:
        Path("devices.toml").write_text(server.entry())
        known = registry.load()
        monkeypatch.setenv("BOARD_PASSWORD", "let me in")
        SshTransport(known.get("board")).close()
        assert server.offered == ["let me in"]
        monkeypatch.setenv("BOARD_PASSWORD", "wrong")
        with pytest.raises(
            AuthenticationError, match=r"board: connect: 127\.0\.0\.1:\d+ refused the login .*BOARD_PASSWORD"
        ) as caught:
            SshTransport(known.get("board"))
        assert "wrong" not in str(caught.value)


def test_a_password_is_not_sent_to_a_server_with_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARD_PASSWORD", "let me in")
    with Passwords("let me in") as server:
        other = paramiko.ECDSAKey.generate()
        Path("devices.toml").write_text(server.entry().replace(server.key.get_base64(), other.get_base64()))
        with pytest.raises(HostKeyError):
            SshTransport(registry.load().get("board"))
        assert server.offered == []


def test_a_server_with_several_keys_shows_the_one_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARD_PASSWORD", "let me in")
    with Passwords("let me in") as server:
        for key in (server.key, server.rsa):
            own = f"{server.key.get_name()} {server.key.get_base64()}"
            Path("devices.toml").write_text(server.entry().replace(own, f"{key.get_name()} {key.get_base64()}"))
            known = registry.load()
            SshTransport(known.get("board")).close()
        other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDOAOXV9APHT3ivSXx5o3mYbBt0+ZHVQpUXPAvPBWUlr"
        Path("devices.toml").write_text(server.entry().replace(own, other))
        with pytest.raises(HostKeyError, match=r"none of the known kind \(ssh-ed25519\).*harness device trust board --replace"):
            SshTransport(registry.load().get("board"))


def test_a_server_that_takes_no_rsa_keys(tmp_path: Path) -> None:
    """OpenSSH 9.2 says that it takes all kinds, whatever its configuration: this server says what it takes."""

    class Ed25519Only(Passwords):
        methods = "publickey"
        lacking = {"pubkeys": [name for name in paramiko.Transport._preferred_pubkeys if name != "ssh-ed25519"]}  # type: ignore[attr-defined]  # noqa: RUF012

    key = make_key(tmp_path / "mine", "rsa")
    with Ed25519Only() as server:
        Path("devices.toml").write_text(server.entry().replace('password_env = "BOARD_PASSWORD"', f'identity_file = "{key}"'))
        known = registry.load()
        words = r"mine \(the server does not accept RSA keys with SHA-2; it accepts ssh-ed25519: make a key with 'ssh-keygen -t ed25519'\)"
        with pytest.raises(AuthenticationError, match=words):
            SshTransport(known.get("board"))
