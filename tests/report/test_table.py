from __future__ import annotations

import re
import sys

import pytest

from harness.judge.judgement import Judgement
from harness.report import table


def test_every_case_and_what_must_be_known_is_there(hostile: Judgement) -> None:
    text = table.render(hostile).decode()
    for words in ("fp32", "static-QDQ", "broken", "impossible", "unmade", "2.00×", "✗ connect:", "all devices", "[?]"):
        assert words in text


def test_nothing_that_a_terminal_obeys_gets_through(hostile: Judgement) -> None:
    text = table.render(hostile).decode()
    assert "alert(1)" in text
    assert not [letter for letter in text if ord(letter) < 32 and letter != "\n"]


def test_a_failed_device_has_no_empty_table(hostile: Judgement) -> None:
    text = table.render(hostile.with_tables(hostile.tables[1:])).decode()
    assert "median ms" not in text
    assert "✗ connect" in text


def test_one_device_needs_no_overview(simple: Judgement) -> None:
    assert "all devices" not in table.render(simple).decode()


def test_a_narrow_terminal_gets_whole_cells_in_several_tables(simple: Judgement, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = table.render(simple).decode()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = re.sub(r"\x1b\[[0-9;]*m", "", table.render(simple).decode())
    words = {cell.strip() for line in wide.splitlines() for cell in line.split("  ") if cell.strip() and "─" not in cell}
    assert words
    assert all(cell in narrow for cell in words)
    grids = [line for line in narrow.splitlines() if "─" in line]
    assert len(grids) > 1
    assert max(map(len, grids)) <= 80
