from __future__ import annotations

import re

import pytest

from harness.judge.judgement import Judgement
from harness.report import columns, markdown


def test_every_table_is_rectangular(hostile: Judgement) -> None:
    lines = markdown.render(hostile).decode().splitlines()
    tables = [line for line in lines if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in tables]
    devices, overview = 2 * (2 + 6), 2 + 6
    assert widths == [len(columns.of(hostile.tables[0]))] * devices + [3] * overview


def test_nothing_hostile_gets_through(hostile: Judgement) -> None:
    text = markdown.render(hostile).decode()
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)`", text)


@pytest.mark.parametrize("words", ["a|b", "*a*", "_a_", "~~a~~", "`a`", "[a](b)", "# a", "a\\"])
def test_markup_is_escaped(words: str) -> None:
    assert re.sub(r"\\(.)", r"\1", markdown.text(words)) == words
    assert not re.search(r"(?<!\\)[|*_~`\[\]#]", markdown.text(words))


def test_line_ends_become_spaces() -> None:
    assert markdown.text("a\r\n\tb") == "a b"


def test_one_device_needs_no_overview(simple: Judgement) -> None:
    text = markdown.render(simple).decode()
    assert text.startswith("# digits\n")
    assert "All devices" not in text
