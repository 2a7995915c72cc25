"""A real OpenSSH server for tests: 127.0.0.1, an ordinary user, keys of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

ACCOUNT = "harness-test"
# tests/set_up_ssh.sh makes these too: a second user of the board, and accounts with another shell.
OTHER, BASH, NOLOGIN, RBASH = "harness-other", "harness-bash", "harness-nologin", "harness-rbash"
FALSE, ZSH, FISH, TCSH = "harness-false", "harness-zsh", "harness-fish", "harness-tcsh"
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserEnvironment no
Subsystem sftp internal-sftp
SetEnv QUANT_HARNESS_HOME={folder}/store QUANT_HARNESS_LEASE={lease}
"""


class SshServer:
    """Started by ``with``; stopped by its process id.

    Args:
        account: the account to log in as where root runs the tests; anybody else's server lets in nobody but them.

    Attributes:
        user: the account to log in as, never root.
        python: a Python of that account that has onnxruntime.
        host_key: as devices.toml takes it.
        identity: the private key that may log in.
        network: the network namespace to listen in; set it before the start.
        lease: the name of the lease that jobs take: each server is a device of its own, unless a test gives two the same.
    """

    def __init__(self, account: str = ACCOUNT) -> None:
        self.user = account if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.python = account_python()
        self.folder = Path(tempfile.mkdtemp(prefix="harness-sshd-"))
        self.identity = self.folder / "user_key"
        self.store = self.folder / "store"
        self.lease = self.folder.name
        self.lines: tuple[str, ...] = ()
        self.network: str | None = None

    @staticmethod
    def lacking(account: str = ACCOUNT) -> str | None:
        """Say what is missing to start a server; None if nothing is."""
        if _sshd() is None:
            return "no sshd: 'make test' installs openssh-server where it may"
        if os.getuid() == 0:
            try:
                pwd.getpwnam(account)
            except KeyError:
                return f"no account {account}: 'make test' makes one"
        elif account != ACCOUNT:
            return f"only root can start a server for {account}"
        return None

    def __enter__(self) -> Self:
        for name in ("host_key", "other_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        if os.getuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, self.user, self.user)
        self.host_key = self.public("host_key")
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def restart(self, *lines: str) -> None:
        """Start anew with these lines before all others of its sshd_config: the first that says a thing wins."""
        self.stop()
        self.lines = lines
        self.start()

    def start(self) -> None:
        """Start the server on a free port."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = self.folder / "sshd_config"
        # Of several SetEnv lines, sshd takes the first alone.
        own = CONFIG.format(port=self.port, folder=self.folder, lease=self.lease)
        lease = f" QUANT_HARNESS_LEASE={self.lease}"
        lines = [line + lease if line.startswith("SetEnv ") and "_LEASE=" not in line else line for line in self.lines]
        config.write_text("".join(f"{line}\n" for line in lines) + own)
        config.chmod(0o644)
        self._log = (self.folder / "log").open("wb")
        drop = self._drop()
        words = [str(_sshd()), "-D", "-e", "-f", str(config)]
        if self.network is not None:
            account = pwd.getpwnam(self.user)
            enter = ["ip", "netns", "exec", self.network, "setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
            words, drop = [*enter, "--clear-groups", *words], {}
        self._process = subprocess.Popen(words, stdout=self._log, stderr=self._log, cwd="/", **drop)  # type: ignore[call-overload]
        self._wait()

    def _drop(self) -> dict[str, str | list[str]]:
        """Whose rights the server has: no more than the account's that it lets in."""
        return {"user": self.user, "group": self.user, "extra_groups": []} if os.getuid() == 0 else {}

    def stop(self) -> None:
        """Stop the server and the connections that it serves."""
        self._process.terminate()
        self._process.wait(timeout=60)
        self._log.close()

    def drop_connections(self) -> None:
        """Kill this server's processes that serve connections; detached jobs go on."""
        for monitor in _children(self._process.pid):
            for pid in [*_children(monitor), monitor]:
                # A process may end by itself meanwhile.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
                        os.kill(pid, signal.SIGKILL)

    def clear(self) -> None:
        """Empty the store."""
        shutil.rmtree(self.store, ignore_errors=True)

    def public(self, name: str) -> str:
        """A public key without its comment."""
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def entry(self, name: str, **other: str | int) -> str:
        """A table of devices.toml that reaches this server; None leaves a key out."""
        keys: dict[str, str | int] = {
            "host": "127.0.0.1",
            "user": self.user,
            "port": self.port,
            "identity_file": str(self.identity),
            "host_key": self.host_key,
            "python": self.python,
        }
        keys |= other
        lines = [
            f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"' for key, value in keys.items() if value != ""
        ]
        return "\n".join([f"[{name}]", *lines, ""])

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.network is not None and "Server listening" in (self.folder / "log").read_text():
                return
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError("sshd did not start: " + (self.folder / "log").read_text())


def _children(pid: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def _sshd() -> str | None:
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))


def account_python() -> str:
    """A Python with onnxruntime that the accounts can run: this one, or the one that set_up_ssh.sh made for them."""
    if os.getuid() != 0:
        return sys.executable
    own = Path(pwd.getpwnam(ACCOUNT).pw_dir) / "venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable
