"""The documentation is connected and readable: its links lead somewhere, and each page says whom it is for."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LINKED = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *PAGES]
WIDTH = 120
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page outside tables and code, with links reduced to their text."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "    ", "<!--")):
            yield number, re.sub(r"\]\([^)]*\)", "]", line)


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for target in LINK.findall(re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](none.md) [d](page.md#one) [e](page.md#none)\n", encoding="utf-8")
    assert broken(page) == ["#two", "none.md", "page.md#none"]


def test_the_map_has_every_page() -> None:
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    missing = {page.name for page in PAGES} - {"README.md"} - set(LINK.findall(text))
    assert not missing


def test_the_readme_leads_to_the_map() -> None:
    assert "docs/README.md" in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_whom_it_is_for(page: Path) -> None:
    title, _, rest = page.read_text(encoding="utf-8").partition("\n\n")
    assert title.startswith("# ")
    assert re.match(r"For [^.\n:]+:\s[^.]", rest), "write 'For engineers: …' below the title"


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_a_line_of_prose_fits_the_screen(page: Path) -> None:
    long = [number for number, line in prose(page.read_text(encoding="utf-8")) if len(line) > WIDTH]
    assert not long, f"lines with more than {WIDTH} characters"


def test_the_glossary_defines_each_word_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"case", "round", "launch", "pair", "block", "reference", "baseline", "method", "recipe", "variant"} <= set(words)
    assert len(words) == len(set(words))


def examples() -> list[tuple[str, str]]:
    """The Python examples of the pages: the page's name, and the code."""
    return [
        (page.name, code)
        for page in PAGES
        for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]


def unknown(code: str) -> list[str]:
    """The names of the harness that an example uses and that do not exist."""
    parsed = ast.parse(code)
    known: dict[str, object] = {}
    missing = []
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness"):
            for each in node.names:
                try:
                    known[each.name] = importlib.import_module(f"{node.module}.{each.name}")
                except ModuleNotFoundError:
                    known[each.name] = getattr(importlib.import_module(node.module or ""), each.name, None)
    for node in ast.walk(parsed):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            missing += [f"{node.value.id}.{node.attr}"] if not hasattr(known[node.value.id], node.attr) else []
    return missing + [name for name, value in known.items() if value is None]


def test_examples_use_what_there_is() -> None:
    assert [name for _, code in examples() for name in unknown(code)] == []
    assert any("from harness" in code for _, code in examples())


def test_an_example_of_what_there_is_not_is_found() -> None:
    assert unknown("from harness import study\nstudy.load_it(1)\n") == ["study.load_it"]
    assert unknown("from harness.quantize.build import built\n") == ["built"]
