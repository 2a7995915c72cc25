from __future__ import annotations

from harness.report import table
from tests.report.conftest import Summary


def test_every_case_and_what_must_be_known_is_there(hostile: Summary) -> None:
    text = table.render(*hostile).decode()
    for words in ("fp32", "static-QDQ", "broken", "impossible", "unmade", "2.00×", "✗ connect:", "all devices", "[?]"):
        assert words in text


def test_nothing_that_a_terminal_obeys_gets_through(hostile: Summary) -> None:
    text = table.render(*hostile).decode()
    assert "alert(1)" in text
    assert not [letter for letter in text if ord(letter) < 32 and letter != "\n"]


def test_a_failed_device_has_no_empty_table(hostile: Summary) -> None:
    text = table.render(hostile.run, hostile.tables[1:]).decode()
    assert "median ms" not in text
    assert "✗ connect" in text


def test_one_device_needs_no_overview(simple: Summary) -> None:
    assert "all devices" not in table.render(*simple).decode()
