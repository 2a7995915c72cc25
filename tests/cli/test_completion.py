"""Completion as bash, zsh and fish ask for it, and its installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import Exit

# Typer calls the program by the name that it was started with.
PROGRAM = "import sys\nfrom harness.cli import main\nsys.argv[0] = 'harness'\nmain()"


def harness(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **variables}
    command = [sys.executable, "-c", PROGRAM, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("harness com", ["compare"]),
        ("harness device ", ["add", "probe", "provision", "release"]),
        ("harness run --eval", ["--evaluation"]),
    ],
)
def test_bash_gets_commands_and_options(typed: str, proposed: list[str]) -> None:
    words = str(len(typed.split(" ")) - 1)
    done = harness(_HARNESS_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=words)
    assert (done.returncode, done.stderr) == (Exit.PASSED, "")
    assert set(proposed) <= set(done.stdout.split())


def test_fish_learns_from_the_exit_code_whether_there_is_something_to_complete() -> None:
    codes = [
        harness(
            _HARNESS_COMPLETE="complete_fish", _TYPER_COMPLETE_FISH_ACTION="is-args", _TYPER_COMPLETE_ARGS=f"harness {word}"
        ).returncode
        for word in ("com", "nonsense")
    ]
    assert codes == [0, 1]


def test_installation_writes_the_script_for_a_shell() -> None:
    done = harness("--install-completion", "zsh")
    assert (done.returncode, done.stderr) == (Exit.PASSED, "")
    assert "_HARNESS_COMPLETE=complete_zsh" in (Path.home() / ".zfunc" / "_harness").read_text()


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_a_shell_that_is_not_supported_is_wrong_use(option: str) -> None:
    detected = "import shellingham\nshellingham.detect_shell = lambda: ('elvish', '/bin/elvish')\n"
    done = subprocess.run([sys.executable, "-c", detected + PROGRAM, option], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.USAGE
    assert "Shell elvish" in done.stdout + done.stderr


def test_a_library_that_ends_the_process_is_no_completion() -> None:
    code = "import sys\nimport harness.cli.app as cli\ncli.app = lambda **_: sys.exit(0)\n"
    done = subprocess.run([sys.executable, "-c", code + PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.CRASHED
