from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from harness.cli.app import app

HEAVY = {"onnx", "onnxruntime", "pandas", "scipy", "matplotlib", "paramiko", "fabric", "duckdb", "numpy", "jinja2"}


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["device", "--help"], ["show", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"sys.argv = ['harness', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("MODULES")[2].split())
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_local_commands_import_no_ssh_library(tmp_path: object) -> None:
    code = (
        "import sys\nfrom harness.cli import main\nsys.argv = ['harness', 'devices']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=str(tmp_path))
    loaded = set(done.stdout.rpartition("MODULES")[2].split())
    assert loaded & {"paramiko", "fabric", "onnx", "onnxruntime"} == set()


@pytest.mark.parametrize("words", [["devices", "--help"], ["board", "list"]])
def test_a_command_runs_with_garbage_collection_and_the_help_without(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr("harness.cli.version.gc.enable", lambda: seen.append(True))
    CliRunner().invoke(app, words)
    assert seen == [True]
    seen.clear()
    CliRunner().invoke(app, ["--help"])
    assert seen == []
