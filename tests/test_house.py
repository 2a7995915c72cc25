"""The house keeps its shape: imports go one way, modules stay small, the shipped files are where a wheel takes them from."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

MODULES = sorted((ROOT / "harness").rglob("*.py"))
LINES = 300


def test_no_file_of_the_root_folder_is_empty() -> None:
    """A slip of the shell makes such files."""
    assert [path.name for path in ROOT.iterdir() if path.is_file() and path.stat().st_size == 0] == []


def name(path: Path) -> str:
    """A module's dotted name; a package has that of its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name(path): path for path in MODULES}


def imports(source: str) -> set[str]:
    """The modules of the house that a module imports, anywhere in it and for types too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import names its module from the top: from harness.…"
            assert node.module
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {next((each for each in _ends(dotted) if each in NAMES), "") for dotted in names}
    # What the package itself defines, such as __version__, is there for all parts.
    return found - {"", "harness"}


def _ends(dotted: str) -> list[str]:
    """a.b.c, a.b, a."""
    words = dotted.split(".")
    return [".".join(words[:count]) for count in range(len(words), 0, -1)]


GRAPH = {module: imports(path.read_text()) for module, path in NAMES.items()}


def part(module: str) -> str:
    """The row of a module: its folder, or the module itself if it lies beside the folders."""
    inner = module.split(".")[1:]
    return "/".join(inner if NAMES[module].name == "__init__.py" else inner[:-1] or inner)


def allowed() -> dict[str, set[str]]:
    """CONTRIBUTING's table: what each part may import."""
    rows = [
        line.split("|") for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if re.match(r"\| `[a-z_/]+` \|", line)
    ]
    parts = {row[1].strip().strip("`"): row[3] for row in rows}
    found = {}
    for each, cell in parts.items():
        named = set(re.findall(r"`([a-z_/]+)`", cell))
        for whole in re.findall(r"`([a-z_]+)` and its folders", cell):
            named |= {other for other in parts if other.startswith(f"{whole}/")}
        around = each.rpartition("/")[0]
        found[each] = named | {each} | ({around} if around else set())
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that each import all others of the group, directly or through others."""
    reached = {node: _reached(graph, node) for node in graph}
    groups = {tuple(sorted(other for other in reached[node] if node in reached.get(other, set()))) for node in graph}
    return [list(group) for group in sorted(groups) if group]


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    left = [start]
    while left:
        new = graph.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


def inside(folder: str) -> dict[str, set[str]]:
    """The imports between the modules and folders that lie directly in a folder."""
    found: dict[str, set[str]] = {}
    for module, others in GRAPH.items():
        if (own := _node(module, folder)) is not None:
            found.setdefault(own, set()).update(node for other in others if (node := _node(other, folder)) not in {None, own})
    return found


def _node(module: str, folder: str) -> str | None:
    inner = module.removeprefix(f"harness.{folder}.")
    return None if inner == module else inner.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("module", [each for each in NAMES if each != "harness"])
def test_a_part_imports_only_what_its_row_names(module: str) -> None:
    rows = allowed()
    assert {part(other) for other in GRAPH[module]} - rows[part(module)] == set()


def test_the_table_has_a_row_for_each_part_and_no_other() -> None:
    assert set(allowed()) == {part(module) for module in NAMES if module != "harness"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(GRAPH) == []


@pytest.mark.parametrize("folder", ["quantize", "devices"])
def test_no_folders_of_a_part_import_each_other_in_a_circle(folder: str) -> None:
    assert circles(inside(folder)) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


@pytest.mark.parametrize(
    "path", [*MODULES, *sorted((ROOT / "runners").rglob("*.py"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES


def test_the_model_files_are_small() -> None:
    # Models that a script makes lie in folders called models, and stay out of git.
    files = [path for path in (ROOT / "studies").rglob("*") if path.suffix in {".onnx", ".npz"} and path.parent.name != "models"]
    assert len(files) >= 3
    assert sum(path.stat().st_size for path in files) < 5_000_000
