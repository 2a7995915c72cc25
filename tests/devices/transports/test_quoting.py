"""Words arrive on a device as they are, and nothing else runs there: they are quoted in one place."""

from __future__ import annotations

import ast
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.devices import registry
from harness.devices.link import Link
from harness.devices.transports.connect import connect
from harness.devices.transports.transport import Transport
from harness.errors import DeviceError, RunnerError
from tests.conftest import ROOT
from tests.sshd import SshServer

NASTY = [
    "$(touch {0})",
    "`touch {0}`",
    "; touch {0};",
    "\ntouch {0}\n",
    "'; touch {0}; '",
    '"; touch {0}; "',
    "| touch {0} #",
    "&& touch {0}",
]
# Prints the program's own name and its words, byte by byte.
DUMP = "#!{python}\nimport json, os, sys\nprint(json.dumps([os.fsencode(word).hex() for word in sys.argv]))\n"
CANARY = "canary"
# A word of a command line holds anything but NUL; a file's name no slash either.
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
WORDS = st.text(LETTERS, max_size=60) | st.lists(st.sampled_from([*NASTY, "-x", "--", "~", "*", "!!", "\\", " ", "é", "漢"])).map(
    "".join
)
NAMES = WORDS.map(lambda word: word.replace("/", "")).filter(
    lambda name: 0 < len(name.encode()) < 200 and name not in {".", ".."}
)
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def canary(sshd: SshServer) -> Path:
    """A file that no test makes, in a folder where any that run there could."""
    folder = sshd.folder / "open"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return folder / CANARY


@pytest.fixture(scope="module")
def board(sshd: SshServer) -> Iterator[Transport]:
    """One connection for all examples."""
    file = sshd.folder / "devices.toml"
    file.write_text(sshd.entry("board"))
    transport = connect(registry.load(file).get("board"))
    yield transport
    transport.close()


def said(board: Transport, words: list[str]) -> list[bytes]:
    """Run a program and read the words that it says it was given."""
    channel = board.open(words, "test")
    channel.end()
    lines = list(channel.lines())
    log = channel.close()
    assert len(lines) == 1, (lines, log)
    return [bytes.fromhex(word) for word in json.loads(lines[0])]


def program(sshd: SshServer, *names: str) -> Path:
    """A program that tells its words, in a place of any name."""
    path = sshd.folder.joinpath(*names)
    path.parent.mkdir(exist_ok=True)
    path.write_text(DUMP.format(python=sshd.python))
    path.chmod(0o755)
    return path


@pytest.mark.ssh
def test_the_canary_is_found_when_something_runs(canary: Path, board: Transport) -> None:
    channel = board.open(["sh", "-c", f"touch {canary}"], "test")
    channel.end()
    list(channel.lines())
    channel.close()
    assert canary.exists()
    canary.unlink()


@pytest.mark.ssh
@SLOW
@given(words=st.lists(WORDS, max_size=5))
@example(words=NASTY)
@example(words=["-c", "--help", "-", "", " ", "a" * 50_000])
def test_words_arrive_as_they_are(sshd: SshServer, canary: Path, board: Transport, words: list[str]) -> None:
    given = [word.replace("{0}", str(canary)) for word in words]
    tell = program(sshd, "tell")
    assert said(board, [str(tell), *given]) == [os.fsencode(tell), *(word.encode() for word in given)]
    assert not canary.exists()


@pytest.mark.ssh
@SLOW
@given(folder=NAMES, name=NAMES)
@example(folder="a b", name="-python")
@example(folder="$(touch canary)", name="'\"`;\n")
def test_a_program_of_any_name_is_started(sshd: SshServer, canary: Path, board: Transport, folder: str, name: str) -> None:
    # Relative to the home of the account, and to the folder where the canary would be: both are looked at.
    path = program(sshd, "in " + folder.replace("{0}", CANARY), name.replace("{0}", CANARY))
    try:
        assert said(board, [str(path), CANARY]) == [os.fsencode(path), CANARY.encode()]
    finally:
        shutil.rmtree(path.parent)
    assert not canary.exists()
    assert not Path(f"~{sshd.user}").expanduser().joinpath(CANARY).exists()


@pytest.mark.ssh
@pytest.mark.parametrize(
    "place",
    ["with space", "quo'te", 'dou"ble', "new\nline", "$(touch canary)", "`touch canary`", "a; touch canary", "-x", "漢字"],
)
def test_a_python_of_any_path_runs_the_agent(sshd: SshServer, place: str) -> None:
    folder = sshd.folder / place
    folder.mkdir()
    folder.chmod(0o755)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sshd.python} "$@"\n')
    python.chmod(0o755)
    entry = tomlkit.parse(sshd.entry("board", python=""))
    entry["board"]["python"] = str(python)
    Path("devices.toml").write_text(tomlkit.dumps(entry))
    board = Link(registry.load().get("board"))
    try:
        assert board.machine()["event"] == "machine"
    finally:
        board.close()
        shutil.rmtree(folder)
    assert not Path(f"~{sshd.user}").expanduser().joinpath(CANARY).exists()


@pytest.mark.ssh
@pytest.mark.parametrize("name", [*NASTY, "../../lease", "-n", "", "a\nb"])
def test_a_name_that_a_board_made_up_runs_nothing(sshd: SshServer, canary: Path, name: str) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    board = Link(registry.load().get("board"))
    try:
        for ask in (lambda: list(board.read_outputs("job", [name.format(canary)])), lambda: board.stop(name.format(canary))):
            with pytest.raises(RunnerError, match="not a plain name"):
                ask()
    finally:
        board.close()
    assert not canary.exists()


@pytest.mark.ssh
def test_a_word_that_no_command_line_can_hold_is_an_error_of_the_device(sshd: SshServer) -> None:
    # The server ends the connection for it: one of its own.
    file = sshd.folder / "devices.toml"
    file.write_text(sshd.entry("board"))
    board = connect(registry.load(file).get("board"))
    with pytest.raises(DeviceError, match="board: test: "):
        said(board, ["echo", "a\0touch canary"])
    board.close()


# Where a shell line is made, and why that is right.
SEAMS = {
    "harness/devices/transports/ssh.py": {"shlex.join"},  # every command to a device
    "harness/devices/transports/line.py": {"exec_command"},  # which is run here
    "harness/devices/transports/ssh_match.py": {"-c"},  # Match exec of the user's own ssh_config, as ssh runs it
    "harness/devices/transports/proxy.py": {"-c"},  # ProxyCommand of the user's own ssh_config, as ssh runs it
    "harness/devices/add.py": {"-c", "shlex.quote"},  # a constant script; what it is given are words; shown to be typed, not run
    "harness/quantize/worker_pool.py": {"-c"},  # Python's, with a constant program
    "harness/devices/boards/prerequisites.py": {"shlex.join"},  # shown to be typed, not run
    "harness/crash.py": {"shlex.join"},  # shown to be read, not run
    "runners/agent/runtimes.py": {"-c"},  # the same
    "runners/job/governor.py": {"-c"},  # the same
}
FORBIDDEN = {"system", "popen", "getoutput", "getstatusoutput", "exec_command", "sudo", "create_subprocess_shell", "invoke_shell"}
MODULES = sorted(path for part in ("harness", "runners", "ci") for path in (ROOT / part).rglob("*.py"))


def shell_lines(source: str) -> set[str]:
    """The ways to make a shell line that a module has."""
    found = set()
    tree = ast.parse(source)
    fabric = any(
        isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in {"fabric", "invoke"}
        for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            found |= {name} & FORBIDDEN
            found |= {f"shlex.{name}"} if owner == "shlex" and name in {"join", "quote"} else set()
            found |= {"fabric's run"} if fabric and name in {"run", "local"} and owner != "subprocess" else set()
            shell = [word.value for word in node.keywords if word.arg == "shell"]
            found |= (
                {"shell="} if any(not (isinstance(value, ast.Constant) and value.value is False) for value in shell) else set()
            )
        if isinstance(node, ast.List):
            found |= {"-c"} if any(isinstance(word, ast.Constant) and word.value == "-c" for word in node.elts) else set()
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_lines_are_made_in_one_place(path: Path) -> None:
    assert shell_lines(path.read_text()) == SEAMS.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os\nos.system('ls')", "system"),
        ("subprocess.run(line, shell=True)", "shell="),
        ("subprocess.run(line, shell=yes)", "shell="),
        ("from fabric import Connection\nConnection('a').run('ls')", "fabric's run"),
        ("client.exec_command('ls')", "exec_command"),
        ("import shlex\nline = shlex.quote(word)", "shlex.quote"),
        ("subprocess.run(['sh', '-c', line])", "-c"),
    ],
)
def test_the_search_finds_shell_lines(source: str, found: str) -> None:
    assert shell_lines(source) == {found}
