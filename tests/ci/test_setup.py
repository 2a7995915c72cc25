"""ci/stage.sh setup: when it makes the environment anew, and with what. The packages are small wheels; the real one is in the last test."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.wheelhouse import packed

pytestmark = pytest.mark.faults


def tool(folder: Path, version: str, code: str = "", name: str = "onnx-quant-harness") -> Path:
    """A wheel with a package ``harness`` and a command that says its name and version."""
    about = f"{name.replace('-', '_')}-{version}.dist-info"
    main = f"def main():\n    print('{name} {version}')\n"
    files = {
        "harness/__init__.py": main,
        "harness/part.py": code,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nharness = harness:main\n",
        f"{about}/RECORD": "",
    }
    return packed(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", files)


class Workspace:
    """A folder with ci/, and the words of its set-up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "ci", folder / "ci")
        self.venv = folder / ".harness-venv"
        self.environment = {
            "PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "BUILD_TAG": "1",
        }  # fmt: skip

    def setup(self, package: Path | str | None, **environment: str) -> tuple[int, str]:
        given = {} if package is None else {"HARNESS_PACKAGE": str(package)}
        done = subprocess.run(
            ["ci/stage.sh", "setup"], cwd=self.folder, env={**self.environment, **given, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def says(self) -> str:
        """What the command that was set up says."""
        words = [str(self.venv / "bin" / "harness"), "--version"]
        return subprocess.run(words, capture_output=True, text=True, check=True, env=self.environment).stdout


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "a work space"
    folder.mkdir()
    return Workspace(folder)


def test_an_environment_is_made_anew_when_what_it_was_made_from_changes(workspace: Workspace, tmp_path: Path) -> None:
    first, second = tool(tmp_path, "1"), tool(tmp_path, "2")
    code, said = workspace.setup(first)
    assert (code, "made .harness-venv from" in said, "it did not exist" in said) == (0, True, True), said
    assert workspace.says() == "onnx-quant-harness 1\n"
    code, said = workspace.setup(first)
    assert (code, "setup: kept .harness-venv" in said) == (0, True), said
    code, said = workspace.setup(second)
    assert (code, "the package changed" in said, workspace.says()) == (0, True, "onnx-quant-harness 2\n"), said
    # The same name with another content.
    tool(tmp_path, "2", code="CHANGED = 1")
    code, said = workspace.setup(second)
    assert (code, "the package changed" in said) == (0, True), said
    constraints = tmp_path / "lock.txt"
    constraints.write_text("numpy==2.0 \\\n    --hash=sha256:00\n")
    code, said = workspace.setup(second, HARNESS_CONSTRAINTS=str(constraints))
    assert (code, "the constraints changed" in said) == (0, True), said
    assert (workspace.venv / "constraints.txt").read_text() == "numpy==2.0\n"
    # The Python it was made with is gone.
    (workspace.venv / "bin" / "python").unlink()
    (workspace.venv / "bin" / "python").symlink_to("/no/such/python")
    code, said = workspace.setup(second, HARNESS_CONSTRAINTS=str(constraints))
    assert (code, "does not start" in said, workspace.says()) == (0, True, "onnx-quant-harness 2\n"), said
    # A module of it is damaged.
    (module,) = workspace.venv.rglob("harness/part.py")
    module.write_text("import no_such_module\n")
    code, said = workspace.setup(second, HARNESS_CONSTRAINTS=str(constraints))
    assert (code, "No module named 'no_such_module'" in said) == (0, True), said
    # The last set-up was cut short.
    (workspace.venv / ".made-by-stage.sh").write_text("unfinished\n")
    code, said = workspace.setup(second, HARNESS_CONSTRAINTS=str(constraints))
    assert (code, "the last setup did not finish" in said) == (0, True), said


def test_what_can_t_be_set_up_ends_with_its_own_code_and_is_not_taken_for_whole(workspace: Workspace, tmp_path: Path) -> None:
    good, broken = tool(tmp_path / "good", "1"), tool(tmp_path / "broken", "1", code="import no_such_module")
    stranger = tool(tmp_path, "1", name="backtester")
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\necho 'Python 3.11 or newer is needed' >&2\nexit 1\n")
    old.chmod(0o755)
    cases = [
        (None, {}, "HARNESS_PACKAGE is not set. Set it to what is to be installed"),
        ("-r requirements.txt", {}, "is an option of pip"),
        ("dist/absent.whl", {}, "does not exist"),
        ("onnx-quant-harness==9.9", {}, "pip could not install HARNESS_PACKAGE=onnx-quant-harness==9.9"),
        (
            broken,
            {},
            "was installed but does not work: .harness-venv is broken: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (stranger, {}, "belongs to another package than onnx-quant-harness; it says: backtester 1"),
        (good, {"HARNESS_CONSTRAINTS": "absent.txt"}, "HARNESS_CONSTRAINTS=absent.txt can't be read"),
        (good, {"PYTHON": "no-such-python"}, "no-such-python was not found"),
        (good, {"PYTHON": str(old)}, "Python 3.11 or newer is needed"),
    ]
    for package, environment, words in cases:
        code, said = workspace.setup(package, **environment)
        assert (code, f"ci/stage.sh: the gate did not begin: {words}"[:35] in said, words in said) == (69, True, True), said
    assert workspace.setup(good)[0] == 0
    assert workspace.says() == "onnx-quant-harness 1\n"


def test_an_environment_that_it_did_not_make_is_used_and_never_deleted(workspace: Workspace, tmp_path: Path) -> None:
    own = tmp_path / "own"
    good = tool(tmp_path, "1")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    code, said = workspace.setup(None, HARNESS_VENV=str(own))
    assert (code, f"there is no {own}/bin/harness" in said) == (69, True), said
    code, said = workspace.setup(good, HARNESS_VENV=str(own))
    assert (code, "was not made by ci/stage.sh" in said, own.is_dir()) == (69, True, True), said
    pip = [sys.executable, "-m", "pip", "--python", str(own / "bin" / "python"), "install", "-q", "--no-index", str(good)]
    subprocess.run(pip, check=True, capture_output=True)
    code, said = workspace.setup(None, HARNESS_VENV=str(own))
    assert (code, "is used as it is" in said) == (0, True), said


def test_a_checkout_is_compared_by_its_content_and_the_real_tool_is_whole(workspace: Workspace, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for name in ("harness", "runners", "studies"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    # What it builds with and depends on comes from the environment that runs the tests.
    words = {"PYTHONPATH": sysconfig.get_path("purelib"), "PIP_NO_BUILD_ISOLATION": "0"}
    code, said = workspace.setup(checkout, **words)
    assert (code, "it did not exist" in said) == (0, True), said
    assert workspace.setup(checkout, **words)[1].strip().startswith("ci/stage.sh: setup: kept")
    with (checkout / "harness" / "text.py").open("a") as file:
        file.write("# changed\n")
    code, said = workspace.setup(checkout, **words)
    assert (code, "the package changed" in said) == (0, True), said
