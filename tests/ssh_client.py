"""The real ssh as a measure for ours, and a real SSH agent."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def agent(*keys: Path) -> Iterator[str]:
    """An SSH agent that holds these keys; its socket."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        place = Path(folder) / "socket"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                if place.exists():
                    break
                time.sleep(0.05)
            if keys:
                environment = {**os.environ, "SSH_AUTH_SOCK": str(place)}
                subprocess.run(["ssh-add", "-q", *map(str, keys)], check=True, env=environment, stdin=subprocess.DEVNULL)
            yield str(place)
        finally:
            process.terminate()
            process.wait(timeout=60)


def ssh_gets_in(alias: str, config: Path, **environment: str) -> bool:
    """Whether the real ssh logs in with this ssh_config."""
    done = subprocess.run(
        ["ssh", "-F", str(config), "-o", "BatchMode=yes", alias, "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment},
        stdin=subprocess.DEVNULL,
    )
    return done.returncode == 0


def keygen(*words: str | Path) -> None:
    """Run ssh-keygen, which asks nothing."""
    subprocess.run(["ssh-keygen", "-q", *map(str, words)], check=True, capture_output=True, stdin=subprocess.DEVNULL)


def make_key(path: Path, kind: str = "ed25519", *more: str, passphrase: str = "") -> Path:
    """Make a key and its public part."""
    keygen("-t", kind, "-N", passphrase, "-C", path.name, "-f", path, *more)
    return path
