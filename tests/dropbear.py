"""A real Dropbear, the SSH server of small boards, for tests: 127.0.0.1, an ordinary user, keys of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from tests.sshd import ACCOUNT, SshServer

PLACES = f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}"


class DropbearServer(SshServer):
    """Started by ``with``; as :class:`SshServer`, but who may log in stands in the account's own authorized_keys for as long as it runs."""

    @staticmethod
    def lacking(account: str = ACCOUNT) -> str | None:
        """Say what is missing to start a server; None if nothing is."""
        if shutil.which("dropbear", path=PLACES) is None or shutil.which("dropbearkey", path=PLACES) is None:
            return "no dropbear: 'make test' installs dropbear-bin where it may"
        return SshServer.lacking(account)

    def __enter__(self) -> Self:
        for name in ("other_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        words = [str(shutil.which("dropbearkey", path=PLACES)), "-t", "ed25519", "-f", str(self.folder / "host_key")]
        shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        (line,) = [line for line in shown.splitlines() if line.startswith("ssh-ed25519 ")]
        self.host_key = " ".join(line.split()[:2])
        if os.getuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, self.user, self.user)
        self._allow()
        try:
            self.start()
        except BaseException:
            self._forbid()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._forbid()
        finally:
            super().__exit__(*exc)

    def start(self) -> None:
        """Start the server on a free port."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = (self.folder / "log").open("wb")
        drop: dict[str, str | list[str]] = {"user": self.user, "group": self.user, "extra_groups": []} if os.getuid() == 0 else {}
        words = [str(shutil.which("dropbear", path=PLACES)), "-F", "-E", "-e", "-s", "-p", f"127.0.0.1:{self.port}"]
        words += ["-r", str(self.folder / "host_key"), "-P", str(self.folder / "pid")]
        self._process = subprocess.Popen(
            words, stdout=self._log, stderr=self._log, cwd="/", env={"QUANT_HARNESS_HOME": str(self.store), "QUANT_HARNESS_LEASE": self.lease}, **drop  # type: ignore[call-overload]
        )  # fmt: skip
        self._wait()

    def stop(self) -> None:
        """Stop the server and the connections that it serves."""
        subprocess.run(["pkill", "-TERM", "-P", str(self._process.pid)], check=False)
        super().stop()

    @property
    def _keys(self) -> Path:
        return Path(pwd.getpwnam(self.user).pw_dir) / ".ssh" / "authorized_keys"

    def _allow(self) -> None:
        """Add our key to the account's."""
        self._made = [path for path in (self._keys.parent, self._keys) if not path.exists()]
        self._keys.parent.mkdir(mode=0o700, exist_ok=True)
        with self._keys.open("a") as file:
            file.write(f"\n{self.public('user_key')}\n")
        for path in self._made:
            path.chmod(0o700 if path.is_dir() else 0o600)
            if os.getuid() == 0:
                shutil.chown(path, self.user, self.user)

    def _forbid(self) -> None:
        """Take our key out of the account's again, and leave nothing that was not there."""
        rest = self._keys.read_text().replace(f"\n{self.public('user_key')}\n", "")
        if rest or self._keys not in self._made:
            self._keys.write_text(rest)
            return
        self._keys.unlink()
        if self._keys.parent in self._made and not any(self._keys.parent.iterdir()):
            self._keys.parent.rmdir()
