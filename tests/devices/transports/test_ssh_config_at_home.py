"""``~/.ssh/config`` and ``/etc/ssh/ssh_config`` with what they include are read as ssh reads them; what ssh refuses is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.devices.transports import ssh_config
from harness.errors import UsageError

# The environment variable asks for more files, and for others.
EXAMPLES = int(os.environ.get("SSH_CONFIG_EXAMPLES", "400"))
SEED = os.environ.get("SSH_CONFIG_SEED", "15")
# A home, an /etc/ssh and a resolver of their own, that end with the process; nothing of them is written to this machine.
OWN_PLACES = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
sed 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf >"$1/names"
mount -t overlay overlay -o "lowerdir=/root,upperdir=$1/upper,workdir=$1/work" /root
mkdir -p /root/.ssh
mount -t tmpfs -o mode=700 tmpfs /root/.ssh
mount -t tmpfs -o mode=755 tmpfs /etc/ssh
mount --bind "$1/names" /etc/nsswitch.conf
shift
exec "$@"
"""
OWN = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OWN_PLACES, "sh"]


def compared(folder: Path, examples: int) -> int:
    """How many files were compared that ssh takes."""
    if os.getuid() != 0 or shutil.which("ssh") is None:
        pytest.skip("needs root, for a home and an /etc/ssh of its own, and OpenSSH's client")
    if subprocess.run([*OWN, folder, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine mounts no overlay over /root")
    command = [sys.executable, "-m", "tests.devices.transports.ssh_config_comparison", str(examples), SEED]
    done = subprocess.run([*OWN, folder, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-20_000:]
    taken, refused = map(int, done.stdout.split())
    assert taken + refused >= examples
    return taken


def test_some_files(tmp_path: Path) -> None:
    assert compared(tmp_path, 40) >= 15


@pytest.mark.faults
def test_many_files(tmp_path: Path) -> None:
    assert compared(tmp_path, EXAMPLES) >= EXAMPLES // 2


@pytest.mark.parametrize("key", ["IdentityFile", "CertificateFile", "UserKnownHostsFile", "GlobalKnownHostsFile"])
def test_a_name_that_is_too_long_for_a_file(key: str) -> None:
    home(f"{key} ~/{'long' * 100}")
    found = ssh_config.route("rpi")
    assert not (*found.certificate_files, *found.known_hosts)


@pytest.mark.parametrize("line", ["Include ~nobody-has-this-name/config", "UserKnownHostsFile # a comment", "Include nothing/*"])
def test_lines_that_say_nothing(line: str) -> None:
    home(f"{line}\nHostName there")
    assert ssh_config.route("rpi").host == "there"


@pytest.mark.parametrize("jump", ["gate:0", "gate:65536", "a:b:c", "gate,a:b:c", "gate:x"])
def test_hops_that_are_none(jump: str) -> None:
    home(f"Host rpi\nProxyJump {jump}")
    with pytest.raises(UsageError, match=r"config:2: .*is not a host"):
        ssh_config.route("rpi")
    assert ssh_config.route("other").jump == ()


def home(text: str) -> None:
    """Write ``~/.ssh/config``."""
    folder = Path.home() / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(text)
