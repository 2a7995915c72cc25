"""The house keeps its shape: imports go one way, modules stay small, the shipped files are where a wheel takes them from."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

ORDER = [
    "text",
    "errors",
    "paths",
    "leftovers",
    "crash",
    "study",
    "quantize",
    "debug",
    "devices",
    "measure",
    "records",
    "judge",
    "report",
    "workflow",
    "cli",
    "pytest_plugin",
]
MODULES = sorted((ROOT / "harness").rglob("*.py"))


def test_no_file_of_the_root_folder_is_empty() -> None:
    """A slip of the shell makes such files."""
    assert [path.name for path in ROOT.iterdir() if path.is_file() and path.stat().st_size == 0] == []


def imports(path: Path) -> set[str]:
    """The parts of the house that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("harness.")}
    # What the package itself defines, such as __version__, is there for all parts.
    return {part for part in found if part in ORDER or list((ROOT / "harness").glob(f"{part}*"))}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_imports_only_from_its_left(path: Path) -> None:
    own = path.relative_to(ROOT / "harness").parts[0].removesuffix(".py")
    if own == "__init__":
        assert imports(path) == set()
        return
    assert {part for part in imports(path) if ORDER.index(part) > ORDER.index(own)} == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_model_files_are_small() -> None:
    # Models that a script makes lie in folders called models, and stay out of git.
    files = [path for path in (ROOT / "studies").rglob("*") if path.suffix in {".onnx", ".npz"} and path.parent.name != "models"]
    assert len(files) >= 3
    assert sum(path.stat().st_size for path in files) < 5_000_000
