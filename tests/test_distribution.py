"""The wheel as it is shipped: its name, its entry points, and what a fresh environment sees of it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import harness
from tests.conftest import ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the project's own build backend."""
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.iterdir()
    return found


def test_the_distribution_has_a_name_of_its_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == harness.DISTRIBUTION == "onnx-quant-harness"
    # A second name for the plugin would register it twice where an older installation is still there.
    assert list(project["entry-points"]["pytest11"]) == ["quant-harness"]


def test_a_source_tree_without_an_installation_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "DISTRIBUTION", "no-such-distribution")
    assert harness.__version__ == "unknown"
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        harness.__getattr__("absent")


def test_the_wheel_installs_under_its_name_and_its_command_starts(wheel: Path, tmp_path: Path) -> None:
    assert wheel.name.startswith("onnx_quant_harness-")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    runners = {f"harness/_shipped/{path.relative_to(ROOT)}" for path in (ROOT / "runners").rglob("*.py")}
    assert {name for name in names if name.startswith("harness/_shipped/runners/") and name.endswith(".py")} == runners
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"harness"}
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    target = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
    ).stdout.strip()
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps", "--quiet", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # What it depends on comes from the environment that runs the tests; the package itself is the wheel's.
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": sysconfig.get_path("purelib")}

    def run(*words: str | Path) -> str:
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command = tmp_path / "venv" / "bin" / "harness"
    assert "Measure quantized ONNX models" in run(command, "--help")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run(command, "--version") == f"onnx-quant-harness {version}\n"
    assert run(python, "-c", "import harness; print(harness.__version__, harness.__file__)").split() == [
        version,
        f"{target}/harness/__init__.py",
    ]
    code = "from importlib.metadata import distribution as d; print(d('onnx-quant-harness').metadata['Name'])"
    assert run(python, "-c", code) == "onnx-quant-harness\n"


def test_the_running_command_names_its_distribution() -> None:
    words = [sys.executable, "-c", "from harness.cli import main; main()", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"onnx-quant-harness {harness.__version__}\n"
