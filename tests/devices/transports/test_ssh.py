"""A device over SSH, against a real OpenSSH server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import paramiko
import pytest

from harness.devices import facts as device_facts
from harness.devices import registry
from harness.devices.link import Link
from harness.devices.transports.ssh import host_key
from harness.errors import (
    AuthenticationError,
    ConnectError,
    DeviceError,
    EntryError,
    HostKeyError,
    RegistryError,
    RunnerError,
    TransferError,
)

if TYPE_CHECKING:
    from tests.sshd import SshServer

pytestmark = pytest.mark.ssh


def link(text: str) -> Link:
    Path("devices.toml").write_text(text)
    return Link(registry.load().get("board"))


def test_a_device_is_reached_as_an_ordinary_user_and_probed(sshd: SshServer) -> None:
    board = link(sshd.entry("board"))
    facts = device_facts.check(board.probe(), "board")
    board.close()
    assert facts.executable == sshd.python
    assert facts.onnxruntime.version is not None
    assert sshd.user != "root"


def test_files_are_pushed_once(sshd: SshServer, tmp_path: Path) -> None:
    import hashlib

    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    files = {hashlib.sha256(data).hexdigest(): tmp_path / "file"}
    board = link(sshd.entry("board"))
    assert board.push(files) == len(data)
    assert board.push(files) == 0
    board.close()
    (stored,) = (sshd.store / "blobs" / "sha256").iterdir()
    assert stored.read_bytes() == data
    assert stored.owner() == sshd.user


def test_a_file_that_changes_on_the_way_is_not_stored(sshd: SshServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"other than promised")
    board = link(sshd.entry("board"))
    with pytest.raises(TransferError, match=r"board: push: file: checksum mismatch after the upload"):
        board.push({"0" * 64: tmp_path / "file"})
    board.close()
    assert list((sshd.store / "blobs" / "sha256").iterdir()) == []


def test_an_unknown_host_key_is_refused_with_the_command_that_trusts_it(sshd: SshServer) -> None:
    with pytest.raises(
        HostKeyError, match=r"board: connect: unknown host key of .*SHA256:.*harness device trust board"
    ) as caught:
        link(sshd.entry("board", host_key=""))
    assert caught.value.exit == 3


def test_a_wrong_host_key_is_refused(sshd: SshServer) -> None:
    with pytest.raises(HostKeyError, match=r"is not the one expected: .*harness device trust board --replace"):
        link(sshd.entry("board", host_key=sshd.public("other_key")))


def test_a_host_key_of_another_type_does_not_pass(sshd: SshServer) -> None:
    rsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
    with pytest.raises(DeviceError, match=r"host key|connection"):
        link(sshd.entry("board", host_key=rsa))


def test_the_users_known_hosts_count(sshd: SshServer) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    link(sshd.entry("board", host_key="")).close()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {sshd.public('other_key')}\n")
    with pytest.raises(HostKeyError, match="not the one expected"):
        link(sshd.entry("board", host_key=""))


def test_trust_asks_for_the_key_without_logging_in(sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board", host_key="", identity_file=""))
    key, fingerprint = host_key(registry.load().get("board"))
    assert key == sshd.host_key
    assert fingerprint.startswith("SHA256:")


def test_a_key_that_may_not_log_in(sshd: SshServer) -> None:
    with pytest.raises(AuthenticationError, match=r"board: connect: 127\.0\.0\.1:\d+ refused the login .*authorized_keys"):
        link(sshd.entry("board", identity_file=str(sshd.folder / "other_key")))


def test_an_identity_file_that_is_not_there(sshd: SshServer) -> None:
    with pytest.raises(
        EntryError, match=r"board: entry: devices\.toml:\d: identity_file /none: no such file; correct it in devices\.toml"
    ):
        link(sshd.entry("board", identity_file="/none"))
    with pytest.raises(EntryError, match=r"identity_file \S+: is a folder, not a key; correct it in devices\.toml"):
        link(sshd.entry("board", identity_file=str(sshd.folder)))


def test_a_password_variable_that_is_not_set(sshd: SshServer) -> None:
    with pytest.raises(EntryError, match=r"environment variable BOARD_PASSWORD .* is not set"):
        link(sshd.entry("board", password_env="BOARD_PASSWORD"))


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port} refused the connection: is sshd running there"):
        link(f'[board]\nhost = "127.0.0.1"\nport = {port}\n')


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(ConnectError, match=r"the host name board\.invalid is not known"):
        link('[board]\nhost = "board.invalid"\n')


def test_a_python_that_is_not_there_names_the_key_to_set(sshd: SshServer) -> None:
    board = link(sshd.entry("board", python="/opt/none/python3"))
    with pytest.raises(RunnerError, match=r'/opt/none/python3 did not start there .*set python = "…" for \[board\]'):
        board.probe()
    board.close()


def test_words_are_quoted(sshd: SshServer) -> None:
    board = link(sshd.entry("board", python="/bin/echo; touch injected"))
    with pytest.raises(RunnerError):
        board.probe()
    board.close()


def test_a_jump_host(sshd: SshServer) -> None:
    board = link(sshd.entry("gate") + sshd.entry("board", jump="gate"))
    assert board.probe()["event"] == "facts"
    board.close()


def test_a_jump_host_that_is_no_device(sshd: SshServer) -> None:
    with pytest.raises(RegistryError, match=r"'board\.jump': 'nowhere' is not another device"):
        link(sshd.entry("board", jump="nowhere"))


def test_a_jump_host_whose_key_is_unknown(sshd: SshServer) -> None:
    with pytest.raises(HostKeyError, match="harness device trust gate"):
        link(sshd.entry("gate", host_key="") + sshd.entry("board", jump="gate"))


class HangsUp:
    """A server that closes every connection at once, and counts them."""

    def __enter__(self) -> Self:
        self.asked = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
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
            self.asked += 1
            connection.close()


def test_a_server_that_is_too_busy_is_asked_again() -> None:
    with HangsUp() as server:
        with pytest.raises(ConnectError, match=r"board: connect: .*closed the connection before any greeting"):
            link(f'[board]\nhost = "127.0.0.1"\nport = {server.port}\n')
        assert server.asked == 4


def test_refused_logins_leave_no_connection_behind(sshd: SshServer) -> None:
    for _ in range(15):
        with pytest.raises(HostKeyError):
            link(sshd.entry("board", host_key=sshd.public("other_key")))
    link(sshd.entry("board")).close()
    deadline = time.monotonic() + 60
    while (left := paramiko_threads()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_no_traceback_of_a_library_reaches_the_terminal() -> None:
    with HangsUp() as server:
        Path("devices.toml").write_text(f'[board]\nhost = "127.0.0.1"\nport = {server.port}\n')
        code = "from harness.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code, "devices"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if line.startswith("harness: board: connect: ")]


def paramiko_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, paramiko.Transport)]


def test_a_flood_on_standard_error_stops_nothing(sshd: SshServer) -> None:
    noisy = sshd.folder / "noisy"
    noisy.write_text(f'#!/bin/sh\necho Welcome\nhead -c 3000000 /dev/zero | tr "\\0" x >&2\nexec {sshd.python} "$@"\n')
    noisy.chmod(0o755)
    board = link(sshd.entry("board", python=str(noisy)))
    assert board.probe()["event"] == "facts"
    board.close()


def test_a_key_with_a_passphrase_and_a_file_that_is_no_key(sshd: SshServer) -> None:
    locked = sshd.folder / "locked_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    with pytest.raises(
        AuthenticationError,
        match=r"locked_key \(refused; also, it has a passphrase: 'ssh-add .*locked_key' loads it into an SSH agent\)",
    ):
        link(sshd.entry("board", identity_file=str(locked)))
    with pytest.raises(AuthenticationError, match=r"user_key\.pub \(it is a public key, .*: name the private key, .*/user_key\)"):
        link(sshd.entry("board", identity_file=f"{sshd.identity}.pub"))


def test_nothing_to_log_in_with(sshd: SshServer) -> None:
    with pytest.raises(AuthenticationError, match="no key or password to offer"):
        link(sshd.entry("board", identity_file=""))


def test_a_host_that_accepts_and_says_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ConnectError, match=r"gave no SSH greeting|closed the connection before any greeting"),
    ):
        link(f'[board]\nhost = "127.0.0.1"\nport = {server.getsockname()[1]}\nconnect_time = 1\n')


def test_the_fastest_cipher_is_taken_and_small_writes_go_at_once(sshd: SshServer) -> None:
    board = link(sshd.entry("board", silence_time=7))
    transport = board._agent._transport._transport._lines[0]._connection.transport  # type: ignore[attr-defined]
    assert transport.local_cipher == transport.remote_cipher == "aes128-gcm@openssh.com"
    assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    board.close()
