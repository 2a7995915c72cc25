"""Every command in environments that a terminal, a container or a CI server may give: the exit code is always the command's own.

``HARNESS_TESTS_ALL=1`` runs every command in every environment. Otherwise a gate that finds a regression meets all of them, and every
other command some.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from harness.cli.app import app
from tests.models import conv_chain

HARNESS = [sys.executable, "-c", "import sys; sys.argv[0] = 'harness'; from harness.cli import main; main()"]
STUDY = """\
name = "chain"
[model]
path = "model.onnx"
[variants]
methods = ["fp32", "fp16"]
[measure]
rounds = 3
rebuilds = 1
warmup = 0.001
block = 0.001
[[claim]]
text = "fp32 is smaller than fp16"
smaller = { method = "fp32" }
than = { method = "fp16" }
"""
DEAD = '[dead]\nhost = "127.0.0.1"\nport = 1\nuser = "nobody"\nhost_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpM0Jcv0DqZ7Qm0CqQ4Q2jWm0vWmV8l5l6Xb3dHfH0p"\n'
# What is run of each command, and the exit code that it has where nothing is in its way.
COMMANDS: dict[str, tuple[list[str], int]] = {
    "run": (["run", "model.onnx", "--variants", "fp32", "--device", "dead"], 3),
    "inspect": (["inspect", "model.onnx"], 0),
    "quantize": (["quantize", "model.onnx", "--variants", "fp32", "-o", "{scratch}/made"], 0),
    "debug": (["debug", "model.onnx", "--variants", "fp32"], 2),
    "devices": (["devices"], 3),
    "device add": (["device", "add", "other", "127.0.0.1", "--registry", "{scratch}/devices.toml"], 3),
    "device probe": (["device", "probe", "local"], 0),
    "device trust": (["device", "trust", "dead"], 3),
    "device provision": (["device", "provision", "dead"], 3),
    "device release": (["device", "release", "dead"], 3),
    "board build": (["board", "build", "--frobnicate"], 2),
    "board up": (["board", "up", "no/name"], 2),
    "board down": (["board", "down", "nowhere"], 2),
    "board list": (["board", "list"], 0),
    "show": (["show", "latest"], 0),
    "claims": (["claims", "latest"], 1),
    "compare": (["compare", "latest", "latest"], 0),
    "check": (["check", "model.onnx", "--baseline", "small.onnx", "--metric", "size", "--json"], 1),
    "baseline save": (["baseline", "save", "latest", "kept", "--baselines", "{scratch}/baselines"], 0),
    "baseline list": (["baseline", "list"], 0),
}
SHOWING = {"inspect", "devices", "device probe", "board list", "show", "compare", "baseline list"}
JUDGING = {"run", "check", "claims"}
ALL = bool(os.environ.get("HARNESS_TESTS_ALL"))


def names(command: Any, above: str = "") -> Iterator[str]:
    """The commands of an app, with those of its groups."""
    for name, each in getattr(command, "commands", {}).items():
        yield from names(each, f"{above}{name} ") if hasattr(each, "commands") else [f"{above}{name}"]


def gone() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def in_namespace(script: str) -> list[str]:
    """Words to start a command with after a script was run in a mount namespace of its own."""
    return ["unshare", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh"]


def ignoring_sigpipe() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


NAMESPACES = {"no passwd entry", "a read-only folder"}
Started = tuple[list[str], dict[str, Any], dict[str, str | None]]
# Words before the command, arguments of Popen, changes of the environment.
ENVIRONMENTS: dict[str, Callable[[], Started]] = {
    "stdout's reader gone": lambda: ([], {"stdout": gone()}, {}),
    "stderr's reader gone": lambda: ([], {"stderr": gone()}, {}),
    "both readers gone": lambda: ([], {"stdout": gone(), "stderr": gone()}, {}),
    "both readers gone, SIGPIPE ignored": lambda: ([], {"stdout": gone(), "stderr": gone(), "preexec_fn": ignoring_sigpipe, "restore_signals": False}, {}),
    "stdout closed": lambda: (["sh", "-c", 'exec "$@" >&-', "sh"], {}, {}),
    "stderr closed": lambda: (["sh", "-c", 'exec "$@" 2>&-', "sh"], {}, {}),
    "all closed": lambda: (["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"], {}, {}),
    "stdout full": lambda: (["sh", "-c", 'exec "$@" > /dev/full', "sh"], {}, {}),
    "both full": lambda: (["sh", "-c", 'exec "$@" > /dev/full 2>&1', "sh"], {}, {}),
    "ASCII": lambda: ([], {}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "Latin-1": lambda: ([], {}, {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}),
    "no HOME": lambda: ([], {}, {"HOME": None, "QUANT_HARNESS_HOME": None}),
    "no passwd entry": lambda: (
        in_namespace("mount --bind /dev/null /etc/passwd"),
        {},
        {"HOME": None, "USER": None, "LOGNAME": None, "QUANT_HARNESS_HOME": None},
    ),
    "a read-only folder": lambda: (in_namespace('mount --bind "$PWD" "$PWD"; mount -o remount,ro,bind "$PWD"; cd "$PWD"'), {}, {}),
}  # fmt: skip
# What can't be written is no success of a command that only shows something.
UNWRITTEN = {"stdout closed", "all closed", "stdout full", "both full"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, a run, a baseline and a registry with a device that is down."""
    folder = tmp_path_factory.mktemp("prepared")
    conv_chain(folder / "model.onnx", 3)
    conv_chain(folder / "small.onnx", 1)
    (folder / "study.toml").write_text(STUDY)
    words = ["run", "study.toml", "--device", "local"]
    places = {
        "QUANT_HARNESS_HOME": str(folder / "store"),
        "HOME": str(folder),
        "QUANT_HARNESS_LEASE": f"test-{secrets.token_hex(8)}",
    }
    done = subprocess.run(
        [*HARNESS, *words], cwd=folder, env={**os.environ, **places}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder / "devices.toml").write_text(DEAD)
    return folder


def chosen() -> list[tuple[str, str]]:
    """Commands and environments: all, or some for each command."""
    found = []
    for number, command in enumerate(COMMANDS):
        for place, environment in enumerate(ENVIRONMENTS):
            if ALL or command == "check" or (place + number) % (3 if command in JUDGING else 7) == 0:
                found.append((command, environment))
    return found


def test_every_command_is_tried() -> None:
    assert set(names(typer.main.get_command(app))) == set(COMMANDS)


@pytest.mark.faults
@pytest.mark.parametrize(("command", "environment"), chosen())
def test_the_exit_code_is_the_commands_own(command: str, environment: str, prepared: Path, tmp_path: Path) -> None:
    if environment in NAMESPACES and (os.getuid() != 0 or shutil.which("unshare") is None):
        pytest.skip("only root can mount")
    words, expected = COMMANDS[command]
    work = tmp_path / "copy"
    shutil.copytree(prepared, work, ignore=shutil.ignore_patterns("store"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before, options, changes = ENVIRONMENTS[environment]()
    found = {**os.environ, "HARNESS_RESULTS": str(scratch / "results"), "TMPDIR": str(scratch)} | changes
    shutil.copytree(work / "results", scratch / "results")
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    process = subprocess.Popen(
        [*before, *HARNESS, *(word.format(scratch=scratch) for word in words)],
        cwd=work, env={key: value for key, value in found.items() if value is not None}, **streams,
    )  # fmt: skip
    for each in options.values():
        if isinstance(each, int) and not isinstance(each, bool):
            os.close(each)
    out, err = process.communicate(timeout=240)
    if expected == 0 and environment in UNWRITTEN and command in SHOWING:
        expected = 2
    assert process.returncode == expected, (err or b"").decode(errors="replace")
    for said in (out or b"", err or b""):
        assert b"Traceback" not in said
    # What is printed never ends up in a file.
    for file in scratch.glob("results/*/*/journal.jsonl"):
        for line in file.read_text().splitlines():
            json.loads(line)
    for file in scratch.glob("results/*/*/run.json"):
        json.loads(file.read_text())


def test_a_terminal_without_unicode_gets_the_nearest_characters(prepared: Path) -> None:
    places = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HARNESS_RESULTS": str(prepared / "results")}
    done = subprocess.run(
        [*HARNESS, "show", "latest"], cwd=prepared, env={**os.environ, **places}, capture_output=True, check=True
    )
    assert done.stdout.isascii()
    assert b"\\u" not in done.stdout
    assert b"\\x" not in done.stdout


CHILD = """
import subprocess, sys
sys.argv = ["harness"]
from harness.cli import streams
streams.secure()
code = "import os; print('is open', *(os.fstat(number).st_mode for number in (0, 1, 2)), file=open({path!r}, 'w'))"
subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_a_child_s_descriptors_are_open_too(tmp_path: Path) -> None:
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", CHILD.format(path=str(tmp_path / "said"))]
    assert subprocess.run(words, check=False).returncode == 0
    assert (tmp_path / "said").read_text().startswith("is open")


def test_an_output_that_could_not_be_written_is_told_once(prepared: Path) -> None:
    words = ["sh", "-c", 'exec "$@" > /dev/full', "sh", *HARNESS, "--help"]
    done = subprocess.run(words, cwd=prepared, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "harness: the output could not be written: No space left on device\n")


@pytest.mark.parametrize("writable", [False, True])
def test_without_a_home_directory_a_cache_is_found(prepared: Path, tmp_path: Path, writable: bool) -> None:
    home = tmp_path / "readonly"
    home.write_text("") if not writable else home.mkdir()
    places = {key: value for key, value in os.environ.items() if key != "QUANT_HARNESS_HOME"} | {
        "HOME": str(home),
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        [*HARNESS, "quantize", "model.onnx", "--variants", "fp32", "-o", str(tmp_path / "made")],
        cwd=prepared,
        env=places,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("is not writable: the cache and the models of baselines are kept in" in done.stderr) == (not writable)
    assert (tmp_path / f"quant-harness-{os.getuid()}").is_dir() == (not writable)
