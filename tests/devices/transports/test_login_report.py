"""Accounts that the server turns away after it accepted the key: only a server run by root looks at them."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.transports.ssh import SshTransport
from harness.errors import AuthenticationError
from tests.ssh_client import make_key
from tests.sshd import SshServer

pytestmark = pytest.mark.ssh

EXPIRED = "harness-expired"


def entry(folder: Path, port: int, user: str) -> str:
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    return f'[board]\nhost = "127.0.0.1"\nport = {port}\nuser = "{user}"\nidentity_file = "{folder}/user"\nhost_key = "{key}"\n'


def log_in(text: str) -> None:
    Path("devices.toml").write_text(text)
    SshTransport(registry.load().get("board")).close()


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, int]]:
    """A server run by root, with or without PAM; its folder and port."""
    if os.getuid() != 0 or (reason := SshServer.lacking()) is not None:
        pytest.skip("only root can start a server that looks at accounts")
    assert reason is None
    try:
        pwd.getpwnam(EXPIRED)
    except KeyError:
        pytest.skip(f"no account {EXPIRED}: 'make test' makes one")
    if not Path("/run/sshd").is_dir():
        pytest.skip("sshd has no /run/sshd to separate its privileges")
    make_key(tmp_path / "host")
    make_key(tmp_path / "user")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # sshd reads the keys as the account that logs in.
    allowed = Path(f"/etc/ssh/harness-test-{port}")
    shutil.copy(tmp_path / "user.pub", allowed)
    allowed.chmod(0o644)
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {tmp_path}/host",
        f"AuthorizedKeysFile {allowed}",
        "PidFile none",
    ]
    (tmp_path / "sshd_config").write_text("\n".join([*lines, "StrictModes no", *request.param, ""]))
    words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(tmp_path / "sshd_config")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, cwd="/")
    assert process.stderr is not None
    process.stderr.readline()
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield tmp_path, port
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stderr.close()
        allowed.unlink()


@pytest.mark.parametrize("server", [["UsePAM yes"]], indirect=True)
def test_an_account_that_has_expired(server: tuple[Path, int]) -> None:
    with pytest.raises(
        AuthenticationError, match=rf"refused the login of user '{EXPIRED}' and hung up; it said: 'Your account has expired"
    ):
        log_in(entry(*server, EXPIRED))


@pytest.mark.parametrize("server", [["UsePAM no", "DenyUsers root"]], indirect=True)
def test_users_that_may_not_log_in(server: tuple[Path, int]) -> None:
    with pytest.raises(
        AuthenticationError, match=r"refused the login of user 'root'; tried: .*user \(refused\); it takes publickey"
    ):
        log_in(entry(*server, "root"))


@pytest.mark.parametrize("server", [["UsePAM no", "PermitRootLogin no"]], indirect=True)
def test_root_may_not_log_in(server: tuple[Path, int]) -> None:
    with pytest.raises(
        AuthenticationError, match=r"the key is accepted, but not the login: root may not log in .*PermitRootLogin"
    ):
        log_in(entry(*server, "root"))


def test_a_server_that_allows_one_try(sshd: SshServer, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    sshd.restart("MaxAuthTries 1")
    try:
        with pytest.raises(AuthenticationError, match=rf"hung up after 1 key was offered \(Too many.*{other} \(refused\)"):
            log_in(sshd.entry("board", identity_file=str(other)))
        log_in(sshd.entry("board"))
    finally:
        sshd.restart()
