"""Programs for devices are whole, hold what they need and nothing else, and compile what they use."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from harness.devices import program
from harness.paths import RUNNERS

PROGRAMS = {name: program.pack(name) for name in ("job", "ort_runner", "prober")}
AGENTS = {command: program.agent(command, {}) for command in program.commands()}


def packed(text: bytes) -> set[str]:
    """The modules in a program, beside its main one."""
    return set(re.findall(r"[{ ]'(\w+)': [\"']", text.decode().partition("texts = ")[2].partition("\n    def ")[0]))


def test_a_program_holds_what_it_imports_and_no_types() -> None:
    assert packed(PROGRAMS["prober"]) == {"child", "counters", "imported", "small_files"}
    assert packed(AGENTS["receive"]) == {"eviction", "place", "small_files", "store", "stream", "upload", "version"}
    assert not any(name.startswith("protocol") for text in (PROGRAMS | AGENTS).values() for name in packed(text))


def test_each_module_of_runners_is_in_a_program() -> None:
    held = {name for text in (PROGRAMS | AGENTS).values() for name in packed(text)}
    there = {path.stem for path in RUNNERS.glob("*/*.py")}
    assert there - held == {"agent", "job", "ort_runner", "prober"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_starts_without_anything_beside_it(name: str) -> None:
    """It says that words are missing, and no more than its usage or the first word that it lacks."""
    done = subprocess.run([sys.executable, "-I", "-S", "-"], input=PROGRAMS[name], capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert b"ModuleNotFoundError" not in done.stderr
    assert b"usage" in done.stdout or b"IndexError" in done.stderr


def test_a_module_is_compiled_when_it_is_imported() -> None:
    """A small board compiles no more than it runs."""
    broken = PROGRAMS["ort_runner"].replace(b"def throughput(", b"def throughput((")
    assert broken != PROGRAMS["ort_runner"]
    done = subprocess.run([sys.executable, "-I", "-S", "-"], input=broken, capture_output=True, timeout=60, check=False)
    assert b"commands: runtime, worker" in done.stdout
