"""ProxyCommands that misbehave: every wait for one ends, the message says how it ended, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.link import Link
from harness.devices.transports.proxy import ProxyCommand
from harness.errors import ConnectError, DeviceError
from tests.conftest import ROOT
from tests.sshd import SshServer

CARRY = """\
import os, socket, sys, threading
open(sys.argv[2], "w").write(str(os.getpid()))
link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while data := os.read(0, 65536):
        link.sendall(data)
    link.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := link.recv(65536):
    os.write(1, data)
"""


def through(command: str, entry: str = '[board]\nhost = "rpi"\nuser = "root"\nconnect_time = 1\n') -> Link:
    folder = Path.home() / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(f"Host rpi\n  ProxyCommand {command}\n")
    Path("devices.toml").write_text(entry)
    return Link(registry.load().get("board"))


def processes(mark: str) -> list[str]:
    """The command lines of the processes that have this mark in theirs."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in words and f"/{os.getpid()}/" not in str(place):
            found.append(words)
    return found


def gone(mark: str) -> bool:
    deadline = time.monotonic() + 60
    while processes(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes(mark)


BAD: dict[str, tuple[str, str]] = {
    "silent": ("sleep {mark}", r"ProxyCommand 'sleep .*' was still running \(no message\); rpi:22 gave no SSH greeting within 1 s"),
    "ends": ("true {mark}", r"ProxyCommand 'true .*' ended with exit code 0: no message; rpi:22 closed the connection before any greeting"),
    "fails": ("sh -c 'echo no way >&2; exit 3' {mark}", r"ended with exit code 3: no way: run the command in a shell to see .*ssh_config$"),
    "none": ("/none/such {mark}", r"ended with exit code 12[67]: .*(not found|No such file).*: run the command in a shell [^;]*$"),
    "killed": ("sh -c 'kill -9 $$' {mark}", r"was killed by signal 9: no message: run the command in a shell [^;]*$"),
    "floods": ("sh -c 'yes {mark} >&2'", r"was still running \(.*y?\d+ .*\); rpi:22 gave no SSH greeting within 1 s"),
    "babbles": ("yes {mark}", r"rpi:22 did not begin as an SSH server does; it said '\d+"),
    "deaf": ("""sh -c 'trap "" TERM HUP INT; sleep {mark} & wait'""", r"was still running .*gave no SSH greeting within 1 s"),
    "leaves a child": ("sh -c 'sleep {mark} & exit 4'", r"ended with exit code 4: no message; rpi:22 gave no SSH greeting within 1 s"),
}  # fmt: skip


@pytest.mark.faults
@pytest.mark.parametrize("kind", BAD)
def test_a_proxy_command_that_misbehaves(kind: str) -> None:
    command, words = BAD[kind]
    mark = str(9_000_000 + os.getpid() + 100_000 * list(BAD).index(kind))
    begun = time.monotonic()
    with pytest.raises(ConnectError, match=words):
        through(command.format(mark=mark))
    assert time.monotonic() - begun < 60
    assert gone(mark)


def test_its_tokens_are_what_ssh_makes_of_them() -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(
        "Host rpi\n  HostName 10.0.0.7\n  Port 2222\n  ProxyCommand sh -c 'echo %h %p %r %n >&2; exit 3'\n"
    )
    Path("devices.toml").write_text('[board]\nhost = "rpi"\nuser = "pi"\nconnect_time = 1\n')
    with pytest.raises(ConnectError, match=r"ended with exit code 3: 10\.0\.0\.7 2222 pi rpi: "):
        Link(registry.load().get("board"))


def test_it_is_run_by_the_users_shell_as_by_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\necho mine "$#" >&2\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    monkeypatch.setenv("SHELL", str(shell))
    with pytest.raises(ConnectError, match=r"ended with exit code 3: mine 2 hello: "):
        through("sh -c 'echo hello >&2; exit 3'")
    monkeypatch.setenv("SHELL", "")
    with pytest.raises(ConnectError, match=r"ended with exit code 3: hello: "):
        through("sh -c 'echo hello >&2; exit 3'")


@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), 15)", "os.kill(os.getpid(),9)"])
def test_none_is_left_when_the_process_ends(end: str) -> None:
    mark = str(8_000_000 + 100_000 * len(end) + os.getpid())
    code = f"import os, sys; from harness.devices.transports.proxy import ProxyCommand; proxy = ProxyCommand(sys.argv[1]); {end}"
    command = f"sh -c 'trap : TERM; sleep {mark} & sleep {mark}'"
    subprocess.run([sys.executable, "-c", code, command], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60)
    assert gone(mark)


@pytest.mark.ssh
@pytest.mark.faults
@pytest.mark.parametrize("act", [lambda link: link.probe(), lambda link: link.push({"0" * 64: Path("file")})])
def test_one_that_stops_carrying_in_the_middle_is_noticed(
    sshd: SshServer, monkeypatch: pytest.MonkeyPatch, act: Callable[[Link], object]
) -> None:
    monkeypatch.setattr("harness.devices.transports.line.OPEN_SECONDS", 1)
    # More than all buffers on the way hold.
    Path("file").write_bytes(os.urandom(8_000_000))
    Path("carry.py").write_text(CARRY)
    command = f"{sys.executable} {Path('carry.py').resolve()} {sshd.port} {Path('pid').resolve()}"
    link = through(command, sshd.entry("board", host="rpi", port="", silence_time=2, connect_time=2))
    try:
        carrier = int(Path("pid").read_text())
        os.kill(carrier, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(DeviceError):
            act(link)
        assert time.monotonic() - begun < 60
    finally:
        begun = time.monotonic()
        link.close()
    assert time.monotonic() - begun < 60
    with pytest.raises(ProcessLookupError):
        os.kill(carrier, 0)


def test_it_can_be_closed_by_several_threads_and_more_than_once() -> None:
    proxy = ProxyCommand("cat")
    assert proxy.send(b"hello") == 5
    assert proxy.recv(10) == b"hello"
    proxy.close()
    proxy.close()
    assert not proxy.failed
