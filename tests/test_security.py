"""docs/security.md names tests that there are, and versions that are asked for."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    named: list[tuple[str, str]] = []
    file = ""
    for path, test in re.findall(r"`([\w/]+\.py)?(?:::(\w+(?:::\w+)*))?`", PAGE):
        file = path or file
        if test or path:
            named.append((file, test))
    places = {file for file, _ in named if not file.startswith("harness/")}
    assert len(named) > 50
    for place in places:
        assert (ROOT / "tests" / place).is_file(), place
    for place, test in named:
        for name in filter(None, test.split("::")):
            assert re.search(rf"^\s*(?:def|class) {name}\b", (ROOT / "tests" / place).read_text(), re.MULTILINE), (place, name)


def test_versions_with_known_weaknesses_are_not_asked_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "paramiko>=5" in asked
    assert "onnx>=1.21" in asked


def test_every_package_of_the_lock_is_pinned_by_hash() -> None:
    lock = re.sub(r"\\\n\s*", " ", (ROOT / "requirements.lock").read_text())
    lines = [line for line in lock.splitlines() if line and not line.startswith("#")]
    assert len(lines) > 40
    assert [line.split()[0] for line in lines if "--hash=sha256:" not in line or "==" not in line] == []
    versions = {
        name: tuple(map(int, found.split(".")[:2]))
        for name, found in re.findall(r"^(paramiko|onnx)==([\d.]+)", lock, re.MULTILINE)
    }
    assert versions["paramiko"] >= (5, 0)
    assert versions["onnx"] >= (1, 21)
