"""Login files and shells of a board's account: they may print and change what they like; one that runs something else is named as the cause."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.devices import add as adding
from harness.devices import registry, startup
from harness.devices.link import Link
from harness.devices.registry import Registry
from harness.errors import DeviceError, RunnerError
from tests import account
from tests.cli.conftest import Command
from tests.dropbear import DropbearServer
from tests.sshd import ACCOUNT, BASH, FALSE, FISH, NOLOGIN, RBASH, TCSH, ZSH, SshServer

pytestmark = pytest.mark.ssh


@contextmanager
def opened(server: SshServer, **keys: str | int) -> Iterator[Link]:
    Path("devices.toml").write_text(server.entry("board", **keys))
    link = Link(registry.load().get("board"))
    try:
        yield link
    finally:
        link.close()


def starts(server: SshServer, **keys: str | int) -> bool:
    with opened(server, **keys) as link:
        return bool(link.machine()["event"] == "machine" and link.probe()["event"] == "facts")


def refusal(server: SshServer, **keys: str | int) -> str:
    """Why no Python starts there."""
    with opened(server, connect_time=1, **keys) as link, pytest.raises(RunnerError) as caught:
        link.machine()
    assert caught.value.step == "provision"
    return caught.value.reason


@pytest.fixture(scope="module")
def bash() -> Iterator[SshServer]:
    with account.server(BASH) as made:
        yield made


def login(server: SshServer, text: str) -> None:
    account.write(server.folder / "home", {".bashrc": text})


HARMLESS = {
    "text": "echo Welcome; echo 'to the board' >&2",
    "no end of a line": "printf 'title'",
    "binary": "head -c 3000 /dev/urandom",
    "json": 'echo \'{"event": "machine", "arch": "evil"}\'',
    "an echo of what is run": 'set -x; echo "$BASH_EXECUTION_STRING"',
    "undefined variables": "set -u",
    "another folder": "cd /",
    "a mask": "umask 777",
    "limits": "ulimit -c 0 -n 256",
    "words in the end": "trap 'echo bye' EXIT",
    "errors end it": "set -e",
    "aliases": "alias python3=false; shopt -s expand_aliases; exec 2>&1",
    "a background process": "(echo early) & wait",
    "it returns early": "case $- in *i*) ;; *) return;; esac; exec zsh",
}  # fmt: skip


@pytest.mark.parametrize("what", HARMLESS)
def test_login_files_may_say_and_set_what_they_like(bash: SshServer, what: str) -> None:
    login(bash, HARMLESS[what] + "\n")
    with opened(bash) as link:
        assert link.machine()["arch"] == os.uname().machine
        assert link.push({}) == 0


WAITING = {
    "another shell": ("exec zsh", "it said nothing"),
    "fish": ("exec fish", "it said nothing"),
    "a login shell": ("exec bash -l", "it said nothing"),
    "a question": ("printf 'Which project? '; read project", 'it said "Which project?"'),
    "cat": ("echo hi; cat", 'it said "hi"'),
    "sleep": ("sleep 60", "it said nothing"),
}


@pytest.mark.faults
@pytest.mark.parametrize("what", WAITING)
def test_a_login_file_that_runs_something_else_is_named(bash: SshServer, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line, said = WAITING[what]
    if line.startswith("exec") and shutil.which(line.split()[1]) is None:
        pytest.skip(f"no {line.split()[1]}: 'make test' installs it where it may")
    bash.clear()
    login(bash, line + "\n")
    monkeypatch.setattr(startup, "PATIENCE", 1)
    begun = time.monotonic()
    reason = refusal(bash)
    assert reason.startswith(
        f"the account's login files do not run the command: {bash.python} did not start within 1 s ({said}). A file that its shell"
    )
    assert "Python 3.9" not in reason
    assert time.monotonic() - begun < 50


def test_nothing_of_ours_is_read_by_another_program(bash: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    login(bash, 'cat >"$HOME/read"; echo done >>"$HOME/ended"\n')
    monkeypatch.setattr(startup, "PATIENCE", 1)
    refusal(bash)
    home = bash.folder / "home"
    deadline = time.monotonic() + 60
    while not (home / "ended").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (home / "read").read_bytes() == b""


ENDING = {
    "exit": ("exit", "exit code 0 before .* started \\(it said nothing\\)"),
    "with a code": ("echo no >&2; exit 3", 'exit code 3 before .* \\(it said "no"\\)'),
    "a program that is not there": ("exec nothing-like-it", "exit code 127 before .*nothing-like-it"),
    "a program": ("exec echo menu", 'exit code 0 before .* \\(it said "menu"\\)'),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDING)
def test_a_login_file_that_ends_the_session_is_named(bash: SshServer, what: str) -> None:
    line, words = ENDING[what]
    bash.clear()
    login(bash, line + "\n")
    with (
        pytest.raises(
            RunnerError, match=f"the account's login files do not run the command: the session ended with {words}"
        ) as caught,
        opened(bash) as link,
    ):
        link.machine()
    assert "Python 3.9" not in caught.value.reason


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("exec </dev/null", r"its standard input ended early: do login files redirect it\?"),
        ("exec <&-", r"its standard input ended early: do login files redirect it\?"),
        ("ulimit -f 0", "File too large: .*; a limit of the account is too low: see ulimit -f there"),
        ("ulimit -n 3", "a limit of the account is too low for .*: raise 'ulimit -n' there"),
        ("ulimit -n 8", "Too many open files: .*; a limit of the account is too low: see ulimit -n there"),
    ],
)
def test_a_login_file_that_takes_what_is_needed_is_told_by_what_fails(bash: SshServer, line: str, words: str) -> None:
    bash.clear()
    login(bash, line + "\n")
    with opened(bash) as link, pytest.raises(DeviceError, match=words):
        link.probe()


@pytest.mark.faults
@pytest.mark.parametrize("line", ["exec 2>&-", "exec 2>/dev/null"])
def test_a_job_runs_where_a_login_file_takes_standard_error(bash: SshServer, line: str, harness: Command, study: Path) -> None:
    bash.clear()
    login(bash, line + "\n")
    Path("devices.toml").write_text(bash.entry("board"))
    result = harness("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "1", "--json")
    assert result.code == 0, result.err


GREETINGS = ("Access: restricted to staff", "shells: see nologin(5)", "SFTP only on weekends", "Your password has expired twice")


@pytest.mark.parametrize("greeting", GREETINGS)
def test_a_greeting_is_not_taken_for_the_reason(bash: SshServer, greeting: str) -> None:
    bash.clear()
    login(bash, f"echo '{greeting}'\n")
    assert starts(bash)
    assert refusal(bash, python="/opt/none/python3").startswith("/opt/none/python3 did not start there")


def test_dropbear_runs_login_files_too() -> None:
    if (reason := DropbearServer.lacking(ZSH)) is not None:
        pytest.skip(reason)
    # Dropbear takes the home from the account's entry; no other test uses this account's own.
    with DropbearServer(ZSH) as board:
        file = Path(pwd.getpwnam(board.user).pw_dir) / ".zshenv"
        try:
            for text, words in (("print hi\n", ""), ("print hi; exit 4\n", r'exit code 4 before .* started \(it said "hi"\)')):
                file.write_text(text)
                file.chmod(0o644)
                if not words:
                    assert starts(board)
                    continue
                with opened(board) as link, pytest.raises(RunnerError, match=words):
                    link.machine()
        finally:
            file.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("who", "files"),
    [
        (ZSH, {".zshenv": "echo hi; setopt nounset nomatch extendedglob\n"}),
        (FISH, {".config/fish/config.fish": "echo hi\nset -x OMP_NUM_THREADS 1\n"}),
        (TCSH, {".cshrc": "echo hi\nset nonomatch\n", ".tcshrc": "echo hi\n"}),
    ],
)
def test_accounts_with_another_shell(who: str, files: dict[str, str]) -> None:
    with account.server(who, files) as board:
        assert starts(board)
        assert "did not start there" in refusal(board, python="/opt/none/python3")


REFUSED = {
    NOLOGIN: r'^the account has no shell that runs commands \(nologin\): give it one .*set user for \[board\] .*it said "This account is currently not available',
    FALSE: r"^the account's shell ended at once \(exit code 1, without output\): it is /bin/false or a similar program",
    RBASH: r"^the account's shell is restricted .*set python for \[board\].*cannot specify",
}


@pytest.mark.parametrize("who", REFUSED)
def test_an_account_without_an_ordinary_shell_is_named_as_such(who: str) -> None:
    with account.server(who) as board:
        reason = refusal(board)
    assert re.search(REFUSED[who], reason), reason
    assert "Python 3.9" not in reason


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "internal-sftp",
            r'^the account may only transfer files \(SFTP\): .*ForceCommand.*it said "This service allows sftp connections only',
        ),
        ("echo Menu", r'^the account\'s login files do not run .*\(it said "Menu"\).*ForceCommand'),
        ("/usr/lib/openssh/sftp-server", r"^the account\'s login files do not run .*did not start within 1 s .*ForceCommand"),
    ],
)
def test_a_forced_command_is_named(command: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PATIENCE", 1)
    with account.server(ACCOUNT, {}, f"ForceCommand {command}") as board:
        reason = refusal(board)
    assert re.search(words, reason), reason


class RootServer(SshServer):
    """A server that runs as root and asks PAM about the account, as a board's own does."""

    def start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        self.lines = ("UsePAM yes", *self.lines)
        super().start()

    def _drop(self) -> dict[str, str | list[str]]:
        return {}


def test_an_expired_password_is_named() -> None:
    if os.getuid() != 0 or not Path("/etc/pam.d/sshd").exists():
        pytest.skip("only root, where PAM is set up for sshd, can let a password expire")
    name = "harness-old-password"
    subprocess.run(["userdel", name], check=False, capture_output=True)  # from a run of the tests that was killed
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{name}:old", text=True, check=True)
        subprocess.run(["chage", "-d", "0", name], check=True)
        with RootServer(name) as board:
            reason = refusal(board)
    finally:
        subprocess.run(["userdel", name], check=False)
    assert reason.startswith("the account's password has expired: log in once on a terminal and change it")
    assert "Python 3.9" not in reason


PYTHONS = {
    "not executable": ("#!/bin/sh\n", 0o644, r"may not be run there .*make it executable"),
    "too old": ("#!/bin/sh\necho 'it is Python 3.6' >&2; exit 1\n", 0o755, r"there is Python 3\.6, and Python 3\.9 or newer is needed"),
    "much too old": ("#!/bin/sh\necho 'Unknown option: -I' >&2; exit 2\n", 0o755, r"is older than Python 3\.4, and Python 3\.9"),
    "for another processor": ("\x7fELF" + "\0" * 60, 0o755, r"is built for another kind of processor"),
    "its interpreter is not there": ("#!/none/python\n", 0o755, r"did not start there .*Python 3\.9 or newer"),
    "without its library": (
        "#!/bin/sh\necho 'python3: error while loading shared libraries: libpython3.11.so.1.0: cannot open' >&2; exit 127\n",
        0o755,
        r"there lacks the library libpython3\.11\.so\.1\.0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", PYTHONS)
def test_a_python_that_can_not_be_used_is_named(sshd: SshServer, what: str) -> None:
    text, mode, words = PYTHONS[what]
    python = Path(tempfile.mkdtemp(dir=sshd.folder)) / "python3"
    python.parent.chmod(0o755)
    python.write_text(text)
    python.chmod(mode)
    with opened(sshd, python=str(python)) as link, pytest.raises(RunnerError, match=words) as caught:
        link.machine()
    assert ("Python 3.9" in caught.value.reason) == ("Python 3" in words)


# As where a distribution keeps a part of the library in another package.
LACKS = """
import sys
class Lacking:
    def find_spec(name, *_):
        if name == {module!r}:
            raise ModuleNotFoundError("No module named %r" % name, name=name)
sys.meta_path.insert(0, Lacking)
"""


@pytest.mark.parametrize(("module", "step"), [("hashlib", "push"), ("fcntl", "provision"), ("json", "provision")])
def test_a_python_without_a_standard_module_is_named(sshd: SshServer, module: str, step: str) -> None:
    folder = Path(tempfile.mkdtemp(dir=sshd.folder))
    folder.chmod(0o755)
    python = account.altered(folder / "small", sshd.python, LACKS.format(module=module))
    with opened(sshd, python=python) as link, pytest.raises(Exception, match=f"lacks the standard module {module}: ") as caught:
        link.machine() if step == "provision" else link.push({})
    assert "python3-modules" in str(caught.value)


def test_a_python_without_ctypes_can_be_measured(sshd: SshServer) -> None:
    folder = Path(tempfile.mkdtemp(dir=sshd.folder))
    folder.chmod(0o755)
    python = account.altered(folder / "small", sshd.python, LACKS.format(module="_ctypes"))
    with opened(sshd, python=python) as link:
        assert "has no ctypes" in link.probe()["uncountable"]


def test_a_device_whose_login_files_run_something_else_is_not_added(bash: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PATIENCE", 1)
    login(bash, "echo hello; read answer\n")
    known = Registry(Path("devices.toml"), {})
    device = adding.entry("board", "127.0.0.1", user=bash.user, port=bash.port, identity_file=str(bash.identity), connect_time=1)
    with pytest.raises(
        RunnerError, match=r'the account\'s login files do not run the command: .* within 1 s \(it said "hello"\)'
    ):
        adding.add(device, Path("devices.toml"), known, lambda _: None)
    assert not Path("devices.toml").exists()
    login(bash, "echo hello\n")
    added = adding.add(device.model_copy(update={"python": bash.python}), Path("devices.toml"), known, lambda _: None)
    assert added.facts.onnxruntime.version is not None


@pytest.mark.parametrize("who", [NOLOGIN, FALSE])
def test_an_account_without_a_shell_is_not_added_and_named(who: str) -> None:
    with account.server(who) as board:
        device = adding.entry("board", "127.0.0.1", user=board.user, port=board.port, identity_file=str(board.identity))
        with pytest.raises(RunnerError, match=r"^board: add: the account") as caught:
            adding.add(device, Path("devices.toml"), Registry(Path("devices.toml"), {}), lambda _: None)
    assert "Python 3.9" not in caught.value.reason
